"""The start form's fields under headings, in the order of their declaration, with plain labels and a line of help each.

Locust's page sorts them by the letters of their options, and writes the help into the label, where it is cut off. The
form that Edit opens does not show why a value is refused: that is shown here, too.
"""

import json
from typing import Any

from locust.argument_parser import get_parser, ui_extra_args_dict
from locust.env import Environment

from locust_tcp.web.tabs import add_script

# The labels of the options whose names alone say too little, by the headings under which the form shows them. A
# locustfile's own options come first: they say what a user does.
FIRST = "Users"
GROUPS = {
    FIRST: {
        "timeout": "Timeout (s)",
        "wait": "Wait (s)",
        "rate": "Rate of each user (requests/s)",
    },
    "No mercy: search for the limit": {
        "start_users": "Users of the first step",
        "max_users": "Max users",
        "step_time": "Step time (s)",
        "settle_time": "Settle time (s)",
    },
    "Thresholds": {
        "max_fail_ratio": "Most failures (share)",
        "max_median": "Longest p50 (ms)",
        "max_percentile": "Longest p95 (ms)",
        "max_two_nines": "Longest p99 (ms)",
        "max_three_nines": "Longest p99.9 (ms)",
        "min_rps": "Least goodput (requests/s)",
        "threshold": "Other thresholds",
        "accept_saturation": "Judge a saturated Locust",
    },
    "TLS": {
        "tls_verify": "TLS verification",
    },
}

# The page's own script begins after this one. It shows the fields in the order of this object.
SCRIPT = """
(() => {
  const fields = %s, options = window.templateArgs?.extra_options;
  if (!options) return;
  const known = fields.filter(({key}) => key in options).map(({key}) => [key, options[key]]);
  window.templateArgs.extra_options = Object.fromEntries([...known, ...Object.entries(options)]);
  const camel = key => key.replace(/_+(.)/g, (_, letter) => letter.toUpperCase());
  const write = () => fields.forEach(({key, label, help, heading}) => {
    for (const input of document.querySelectorAll(`form [name="${camel(key)}"]`)) {
      const control = input.closest(".MuiFormControl-root, .MuiFormControlLabel-root");
      const text = control?.querySelector("label, .MuiFormControlLabel-label");
      if (!text || control.dataset.labelled) continue;
      control.dataset.labelled = "yes";
      text.textContent = label;
      const gap = control.querySelector("legend span");
      if (gap) gap.textContent = label;
      const line = document.createElement("p");
      line.textContent = help;
      line.style.cssText = "margin: 3px 14px 0; font: 12px system-ui, sans-serif; opacity: 0.75";
      if (control.classList.contains("MuiFormControl-root")) control.append(line); else text.title = help;
      if (!heading) continue;
      const title = document.createElement("h3");
      title.textContent = heading;
      title.style.cssText = "margin: 12px 0 0; font: 600 16px system-ui, sans-serif";
      control.before(title);
    }
  });
  const fetched = window.fetch;
  window.fetch = async (...request) => {
    if (!String(request[0]?.url ?? request[0]).endsWith("/swarm")) return fetched(...request);
    for (;;) {
      const response = await fetched(...request.map(part => part?.clone?.() ?? part));  // a body is read once
      const answer = await response.clone().json().catch(() => ({success: true}));
      line.remove();
      if (!answer.success && answer.again) say(answer.message, "#8a5a00");
      else if (!answer.success) setTimeout(() => refuse(answer.message), 300);
      if (answer.success || !answer.again) return response;
      await new Promise(resume => setTimeout(resume, 2000));
    }
  };
  const line = document.createElement("p");
  line.setAttribute("role", "alert");
  const say = (message, colour) => {
    line.textContent = message;
    line.style.cssText = "position: fixed; z-index: 9999; left: 0; right: 0; bottom: 0; margin: 0; padding: 16px; " +
      `background: ${colour}; color: #fff; font: 16px system-ui, sans-serif; text-align: center`;
    document.body.append(line);
  };
  const refuse = message => {
    if (document.querySelector(".MuiAlert-root")) return;  // the start form says it itself
    say(message, "#d32f2f");
    setTimeout(() => line.remove(), 10000);
  };
  new MutationObserver(write).observe(document.documentElement, {childList: true, subtree: true});
})();
"""


def fields() -> list[dict[str, str]]:
    """Return key, label, help and heading of each option of the form that is not Locust's own, in the order shown."""
    shown: dict[str, Any] = ui_extra_args_dict()
    known = {key: (heading, label) for heading, labels in GROUPS.items() for key, label in labels.items()}
    declared = [action.dest for action in get_parser()._actions if action.dest in shown]
    groups = {heading: [key for key in declared if known.get(key, (FIRST,))[0] == heading] for heading in GROUPS}
    return [
        {
            "key": key,
            "label": known[key][1] if key in known else key.replace("_", " ").capitalize(),
            "help": shown[key]["help_text"] or "",
            "heading": heading if key == keys[0] else "",
        }
        for heading, keys in groups.items()
        for key in keys
    ]


def add(environment: Environment) -> None:
    """Write our labels on the start form and on the form that Edit opens."""
    if environment.web_ui is None or environment.web_ui.app is None:
        return
    add_script(environment, SCRIPT % json.dumps(fields()).replace("<", "\\u003c"))
