"""Have Locust's page ask once more when a test has ended.

The page asks for statistics, logs and exceptions every few seconds, and stops as soon as it hears that the test has
stopped. What is decided then, such as which thresholds were kept, would come to it with the next reload only.
"""

from locust.env import Environment

from locust_tcp.web.tabs import add_script

# The page's own script begins after this one. It repeats its questions with setInterval, every 2 and 5 seconds.
# The request of a component that is no longer shown raises an error, which is ignored.
SCRIPT = """
(() => {
  const seconds = [1, 5];  // the listeners of test_stop take moments; those that write files take longer
  const repeat = window.setInterval, stop = window.clearInterval, questions = new Map();
  window.setInterval = (question, pause, ...rest) => {
    const id = repeat(question, pause, ...rest);
    if (pause >= 2000) questions.set(id, question);
    return id;
  };
  window.clearInterval = id => {
    stop(id);
    const question = questions.get(id);
    questions.delete(id);
    const ask = () => { try { question(); } catch { /* not shown any more */ } };
    if (question) for (const after of seconds) setTimeout(ask, 1000 * after);
  };
})();
"""


def add(environment: Environment) -> None:
    """Add the script to the page of an environment."""
    if environment.web_ui is not None and environment.web_ui.app is not None:
        add_script(environment, SCRIPT)
