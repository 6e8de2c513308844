"""Workers whose master is gone: they stop their users.

With Locust alone these make requests for a minute more, which are missing from all figures.
"""

import logging

import gevent
from locust import runners
from locust.env import Environment
from locust.runners import STATE_RUNNING, WorkerRunner

from locust_tcp.patches.guard import ABSENT, Patch

logger = logging.getLogger(__name__)

# The master answers each of the worker's heartbeats, one a second. A master that is busy for five seconds
# keeps its workers. The users of one that has ended have stopped within ten, of which locustfile.py gives
# them one to finish.
SILENCE = 8.0  # seconds
TICK = 0.5  # seconds

PATCH = Patch(
    lost="an early end of a worker's users when its master is gone: they go on for a minute",
    tested={
        "locust.runners:Runner.stop_users": {
            "72b1a6878e6155b3",  # 2.32.0
            "024408322abd6885",  # 2.32.3
            "7c825b785ff3d0f6",  # 2.47.0
        },
        "locust.runners:WorkerRunner.start_worker": {"5e55df226698f583"},
        "locust.runners:WorkerRunner.heartbeat": {"b0aa7d8a9e63bca6"},
        "locust.runners:WorkerRunner.heartbeat_timeout_checker": {"f4161af03189bd2e"},
        "locust.runners:WorkerRunner.worker": {
            "08e393056a54c23a",  # 2.32.0
            "22adbc993e3f4636",  # 2.32.3
            "71170667769c4266",  # 2.42.6
        },
        "locust.runners:WorkerRunner.handle_message": {
            ABSENT,  # 2.32.0
            "1ccb5a4d9a79e629",  # 2.42.6
            "0bbf4baa0bf6c9a9",  # 2.43.0
            "35cce2c6ddaa5605",  # 2.47.0
        },
    },
)


def watch(environment: Environment) -> None:
    """Stop a worker's users while its master is silent. Never returns, where the patch is applied.

    A master that is back finds the users that it had asked for. Without one, Locust ends the worker.
    """
    runner = environment.runner
    assert isinstance(runner, WorkerRunner)
    silence, last, stopped = 0.0, None, False
    while PATCH.applied:
        gevent.sleep(TICK)
        # Ticks are counted, because a clock would go on while this process itself can't read heartbeats.
        silence = silence + TICK if last == runner.last_heartbeat_timestamp else 0.0
        last = runner.last_heartbeat_timestamp
        if last and silence >= SILENCE and runner.user_count:
            logger.error(
                "No heartbeat from the master for %g s: it has ended, it stands still, or the network is down. The "
                "users of this worker stop. Without a master for %g s the worker ends.",
                SILENCE,
                runners.MASTER_HEARTBEAT_TIMEOUT,
            )
            runner.stop_users(runner.user_classes_count)
            stopped = True
        elif stopped and not silence:
            stopped = False
            if runner.state == STATE_RUNNING and not runner.user_count:  # the master has said nothing else meanwhile
                logger.warning("The master is back: the users of this worker start again.")
                runner.start_worker(runner.target_user_classes_count)
