"""The start form's fields in the order in which their options are declared, with plain labels and a line of help each.

Locust's page sorts them by the letters of their options, and writes the help into the label, where it is cut off. The
form that Edit opens does not show why a value is refused: that is shown here, too.
"""

import json
from typing import Any

from locust.argument_parser import get_parser, ui_extra_args_dict
from locust.env import Environment

from locust_tcp.web.tabs import add_script

LABELS = {  # of options whose names alone say too little
    "max_fail_ratio": "Most failures (share)",
    "max_median": "Longest p50 (ms)",
    "max_percentile": "Longest p95 (ms)",
    "max_two_nines": "Longest p99 (ms)",
    "max_three_nines": "Longest p99.9 (ms)",
    "min_rps": "Least goodput (requests/s)",
    "threshold": "Other thresholds",
    "accept_saturation": "Judge a saturated Locust",
    "tls_ca": "TLS authority (file)",
    "tls_verify": "TLS verification",
    "tls_client_cert": "TLS certificate of the users (file)",
    "tls_client_key": "TLS key of the users (file)",
}

# The page's own script begins after this one. It shows the fields in the order of this object.
SCRIPT = """
(() => {
  const fields = %s, options = window.templateArgs?.extra_options;
  if (!options) return;
  const known = fields.filter(({key}) => key in options).map(({key}) => [key, options[key]]);
  window.templateArgs.extra_options = Object.fromEntries([...known, ...Object.entries(options)]);
  const camel = key => key.replace(/_+(.)/g, (_, letter) => letter.toUpperCase());
  const write = () => fields.forEach(({key, label, help}) => {
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
    }
  });
  const fetched = window.fetch;
  window.fetch = async (...request) => {
    const response = await fetched(...request);
    const url = String(request[0]?.url ?? request[0]);
    if (url.endsWith("/swarm")) response.clone().json().then(answer => answer.success || refuse(answer.message));
    return response;
  };
  const refuse = message => setTimeout(() => {
    if (document.querySelector(".MuiAlert-root")) return;  // the start form says it itself
    const line = document.createElement("p");
    line.setAttribute("role", "alert");
    line.textContent = message;
    line.style.cssText = "position: fixed; z-index: 9999; left: 0; right: 0; bottom: 0; margin: 0; padding: 16px; " +
      "background: #d32f2f; color: #fff; font: 16px system-ui, sans-serif; text-align: center";
    document.body.append(line);
    setTimeout(() => line.remove(), 10000);
  }, 300);
  new MutationObserver(write).observe(document.documentElement, {childList: true, subtree: true});
})();
"""


def fields() -> list[dict[str, str]]:
    """Return key, label and help of each option of the form that is not Locust's own, in the order of declaration."""
    shown: dict[str, Any] = ui_extra_args_dict()
    declared = [action.dest for action in get_parser()._actions if action.dest in shown]
    own = [key for key in declared if key not in LABELS]  # the locustfile's first: they say what a user does
    return [
        {
            "key": key,
            "label": LABELS.get(key, key.replace("_", " ").capitalize()),
            "help": shown[key]["help_text"] or "",
        }
        for key in dict.fromkeys([*own, *(key for key in LABELS if key in declared)])
    ]


def add(environment: Environment) -> None:
    """Write our labels on the start form and on the form that Edit opens."""
    if environment.web_ui is None or environment.web_ui.app is None:
        return
    add_script(environment, SCRIPT % json.dumps(fields()).replace("<", "\\u003c"))
