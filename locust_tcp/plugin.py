"""What the kit adds to Locust: its options, and what it does at which event.

This is the only module that adds listeners and options. All of it serves users of any kind, and
nothing of it runs at a request.
"""

import argparse
import contextlib
import functools
import gc
import logging
import signal
import time
from typing import Any, cast

import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import STATE_CLEANUP, MasterRunner, WorkerRunner

from locust_tcp import patches
from locust_tcp.client import forget_wrong_replies
from locust_tcp.metrics.generator import LoadGenerator
from locust_tcp.metrics.history import History
from locust_tcp.metrics.snapshot import StatsCollector
from locust_tcp.metrics.thresholds import EXAMPLES, Judge, Thresholds
from locust_tcp.patches import worker_reports
from locust_tcp.patches.page import add_to_report, serve_unrounded
from locust_tcp.printable import escape_logs
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.timestamps import keep_arrival_times
from locust_tcp.user import forget_addresses
from locust_tcp.version import VERSION
from locust_tcp.web import ending, foreign, form, generator_tab, labels, thresholds_tab
from locust_tcp.web.report import Report

logger = logging.getLogger(__name__)

ONE_CTRL_C = 1.0  # seconds; further signals until then are no second wish: a key repeats itself
INTERRUPTED = 130  # the exit code of what SIGINT has ended, by the convention of shells


@functools.cache
def install() -> None:
    """Apply the patches, and add the options and listeners. A second call does nothing."""
    patches.apply_all()
    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_init)
    events.test_start.add_listener(forget_addresses)
    events.test_start.add_listener(forget_wrong_replies)


# Locust's page takes a digit of a dest for a word of its own: it would send the value of a max_p95 as max_p9_5.
PERCENTILES = (
    ("--max-p50", "max_median", "median"),
    ("--max-p95", "max_percentile", "95th percentile"),
    ("--max-p99", "max_two_nines", "99th percentile"),
    ("--max-p999", "max_three_nines", "99.9th percentile"),
)


class _Joined(argparse.Action):
    """Joins the values of a repeated option to one text: Locust's form takes the items of an empty list for int."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        earlier = getattr(namespace, self.dest)
        setattr(namespace, self.dest, f"{earlier}, {values}" if earlier else values)


def _add_options(parser: LocustArgumentParser) -> None:
    # The page can start a load test on any host: by default only this machine reaches it.
    parser.set_defaults(web_host="127.0.0.1")
    parser.add_argument(
        foreign.OPTION,
        env_var="LOCUST_WEB_ALLOW_HOST",
        default="",
        include_in_web_ui=False,
        metavar="<name>",
        help="other names under which Locust's page is reached, as through a proxy, with commas between them",
    )
    parser.add_argument(
        "--max-fail-ratio",
        type=form.share,
        default=Thresholds.max_fail_ratio,
        help="threshold: the share of requests that may fail, such as 0.01; 1: no threshold",
    )
    for flag, dest, words in PERCENTILES:
        parser.add_argument(
            flag,
            dest=dest,
            type=form.number("milliseconds", zero=True),
            default=0.0,
            help=f"threshold: the {words} of the response times in milliseconds; 0: no threshold",
        )
    parser.add_argument(
        "--min-rps",
        type=form.number("requests per second", zero=True),
        default=Thresholds.min_goodput,
        help="threshold: goodput, the successful requests per second; 0: no threshold",
    )
    parser.add_argument(
        "--threshold",
        type=form.thresholds,
        action=_Joined,
        default="",
        help=f"other thresholds, with commas between them: {EXAMPLES}; each may begin with a row's name",
    )
    parser.add_argument(
        "--accept-saturation",
        action="store_true",
        help="judge the thresholds even if Locust itself is saturated",
    )


def _init(environment: Environment, **_: Any) -> None:
    """Prepare a process of Locust: a worker, a master, or both in one."""
    escape_logs()
    patches.warn_of_lost()
    serve_unrounded(environment)
    is_worker = isinstance(environment.runner, WorkerRunner)
    if not is_worker:  # a worker's host and options come from its master, which has checked them
        form.check_host(environment)
        form.check_port(environment)
        foreign.refuse_foreign_requests(environment)
        form.check_start_form(environment)
        form.check_user_form(environment)

    # Timers count from the event loop's clock, which still stands where the imports began: without
    # this, the --run-time of a slow start is a second short.
    gevent.get_hub().loop.update_now()
    _interrupt_main_greenlet(environment)
    _raise_limit_of_open_files()
    if Connection.kernel_times:
        keep_arrival_times()

    hooks = environment.events
    generator = LoadGenerator.of(environment)
    gevent.spawn(generator.run)
    # A full garbage collection would look at every object of every user: 10,000 users stand still for 0.3 s.
    hooks.spawning_complete.add_listener(lambda **_: gc.freeze())
    hooks.test_stop.add_listener(lambda **_: gc.unfreeze())
    hooks.test_start.add_listener(generator.reset)
    hooks.test_stopping.add_listener(generator.users_stop)
    hooks.reset_stats.add_listener(generator.reset)
    if environment.reset_stats:  # --reset-stats
        hooks.spawning_complete.add_listener(generator.reset)
    if is_worker:
        hooks.report_to_master.add_listener(generator.report)
        add_packing = functools.partial(hooks.report_to_master.add_listener, worker_reports.pack_histograms)
        cast(WorkerRunner, environment.runner).register_message(worker_reports.PACK, lambda **_: add_packing())
        gevent.spawn(patches.orphans.watch, environment)
        report_now = functools.partial(_report_now, cast(WorkerRunner, environment.runner))
        for hook in (hooks.spawning_complete, hooks.test_stopping, hooks.test_stop, hooks.quitting):
            hook.add_listener(report_now)
        return
    hooks.worker_report.add_listener(generator.add_report)
    if isinstance(environment.runner, MasterRunner) and worker_reports.PATCH.applied:
        hooks.worker_report.add_listener(functools.partial(_ask_to_pack, environment.runner, set()))
    hooks.test_stop.add_listener(generator.log_verdict)
    labels.add(environment)
    ending.add(environment)
    generator_tab.add(environment)
    add_to_report(environment, Report.of(environment).html)

    collector = StatsCollector.of(environment)
    hooks.test_start.add_listener(collector.reset)
    hooks.reset_stats.add_listener(collector.reset)
    hooks.worker_report.add_listener(collector.add_report)

    history = History.of(environment)
    gevent.spawn(history.run)
    hooks.test_start.add_listener(history.reset)
    hooks.reset_stats.add_listener(history.reset)

    judge = Judge(environment)
    thresholds_tab.add(environment, judge)
    hooks.test_start.add_listener(judge.reset)
    hooks.reset_stats.add_listener(judge.stats_reset)
    hooks.worker_report.add_listener(judge.add_report)
    hooks.spawning_complete.add_listener(judge.all_users_spawned)
    hooks.test_stopping.add_listener(judge.users_stop)
    hooks.test_stop.add_listener(judge.test_stopped)
    hooks.quitting.add_listener(judge.quit)


def _ask_to_pack(master: MasterRunner, asked: set[str], client_id: str, data: dict[str, Any], **_: Any) -> None:
    """Ask each worker once to make its reports small, if its kit knows how."""
    if client_id not in asked and data.get("kit_version") == VERSION:
        asked.add(client_id)
        master.send_message(worker_reports.PACK, client_id=client_id)


def _report_now(worker: WorkerRunner, **_: Any) -> None:
    """Send a report to the master, besides those of every three seconds.

    So the master knows what happened before this moment and what after, however short the test is.
    """
    data: dict[str, Any] = {}
    worker.environment.events.report_to_master.fire(client_id=worker.client_id, data=data)
    with contextlib.suppress(RPCError):  # Locust's next report says that the master can't be reached
        worker.send_message("stats", data)  # as Locust's own reports


def _interrupt_main_greenlet(environment: Environment) -> None:
    """Make Ctrl-C interrupt Locust's main greenlet, which then stops the users as Stop does.

    Otherwise Ctrl-C interrupts the greenlet that is running. Under load that is a user in the
    middle of an exchange: it ends with a traceback, and its exchange is missing from the counts.

    Ctrl-C in the terminal of a master with workers interrupts all of them. The master stops the
    workers, and waits for their last figures. A worker that stops by itself takes leave of its
    master before that, and its last figures are lost. So it does that only if the master has not
    stopped it after a second.

    A second Ctrl-C would interrupt Locust while it stops. It ends the process, without a traceback.
    """
    main, hub, runner = gevent.getcurrent(), gevent.get_hub(), environment.runner
    interrupted_at: float | None = None
    quits = False

    def throw(error: BaseException) -> None:
        hub.loop.run_callback(main.throw, error)

    def interrupt() -> None:
        nonlocal interrupted_at
        now = time.monotonic()
        if interrupted_at is None:
            interrupted_at = now
            gevent.spawn_later(ONE_CTRL_C if isinstance(runner, WorkerRunner) else 0, stop)
        elif now - interrupted_at >= ONE_CTRL_C:
            logger.error("Interrupted again: Locust ends without its last figures and files.")
            throw(SystemExit(INTERRUPTED))

    def stop() -> None:
        if not quits and not (isinstance(runner, WorkerRunner) and runner.state == STATE_CLEANUP):
            throw(KeyboardInterrupt())

    def quitting(**_: Any) -> None:
        nonlocal quits
        quits = True

    gevent.signal_handler(signal.SIGINT, interrupt)
    environment.events.quitting.add_listener(quitting)
    # The run has its exit code then: a signal in Locust's last moments must not replace it.
    environment.events.quit.add_listener(lambda **_: signal.signal(signal.SIGINT, signal.SIG_IGN))


def _raise_limit_of_open_files() -> None:
    """Raise the soft limit of open files to the hard limit: Locust raises it to 10,000 only."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
