// Asks before something is done that cannot be undone.

import { byId, setText } from "./dom.js";

/**
 * Shows the dialog; gives what was entered, or null where it was cancelled.
 * `field` describes an input: label, and the properties of it.
 */
export function confirm({ title, text, ok, danger = false, field }) {
  const dialog = byId("dialog");
  const input = byId("dialog-input");
  setText(byId("dialog-title"), title);
  setText(byId("dialog-text"), text);
  setText(byId("dialog-ok"), ok);
  byId("dialog-ok").className = danger ? "danger" : "primary";
  byId("dialog-field").hidden = !field;
  for (const name of ["min", "max", "maxlength"]) input.removeAttribute(name);
  Object.assign(input, { type: "text", value: "", required: false, ...field?.properties });
  setText(byId("dialog-label"), field?.label ?? "");
  return new Promise((done) => {
    const form = byId("dialog-form");
    const cancel = byId("dialog-cancel");
    const settle = (result) => {
      form.removeEventListener("submit", submit);
      cancel.removeEventListener("click", close);
      dialog.removeEventListener("close", closed);
      done(result);
    };
    const submit = () => settle(field ? input.value : "");
    const close = () => dialog.close();
    const closed = () => settle(null);
    form.addEventListener("submit", submit);
    cancel.addEventListener("click", close);
    dialog.addEventListener("close", closed);
    dialog.showModal();
    if (!field) cancel.focus();
  });
}
