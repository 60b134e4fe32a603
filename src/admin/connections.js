// Who is connected, and the way to end that.

import { call, told } from "./api.js";
import { confirm } from "./confirm.js";
import { byId, el, plural, setText, timeElement } from "./dom.js";

const PAGE = 100;

export class Connections {
  constructor() {
    this.shown = 0;
    this.searched = null;
    byId("connections-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.search();
    });
    byId("connections-more").addEventListener("click", () => this.#page());
    byId("disconnect-all").addEventListener("click", () => {
      const { by, text } = this.searched;
      this.#disconnect({ [by]: text }, `all connections of ${by === "user_id" ? "user" : "subject"} ${text}`);
    });
  }

  /** Lists at once what there is, when the view is opened first. */
  opened() {
    if (!this.searched) this.search();
  }

  async search() {
    this.searched = { by: byId("connections-by").value, text: byId("connections-text").value.trim() };
    this.shown = 0;
    this.cursor = undefined;
    byId("connections-rows").replaceChildren();
    byId("connections-table").hidden = true;
    byId("disconnect-all").hidden = true;
    await this.#page();
  }

  async #page() {
    const { by, text } = this.searched;
    const query = { limit: PAGE, ...(text && { [by]: text }), ...(this.cursor && { cursor: this.cursor }) };
    const result = byId("connections-result");
    byId("connections-more").hidden = true;
    let page;
    try {
      page = await call("connections", { query });
    } catch (error) {
      this.#tell("bad", told(error));
      return;
    }
    this.shown += page.connections.length;
    this.cursor = page.next_cursor;
    byId("connections-rows").append(...page.connections.map((connection) => this.#row(connection)));
    byId("connections-table").hidden = this.shown === 0;
    byId("connections-more").hidden = !page.next_cursor;
    const all = byId("disconnect-all");
    all.hidden = !text || this.shown === 0;
    setText(all, `Disconnect all of ${text}…`);
    result.dataset.state = "";
    setText(result, this.shown === 0 ? (text ? "Nobody is connected by that name." : "Nobody is connected.") : `${plural(this.shown, "connection")}${page.next_cursor ? ", and there are more" : ""}.`);
  }

  #row(connection) {
    const { connection_id: id, user_id: user, subjects } = connection;
    const end = el("button", { type: "button", class: "quiet danger", "aria-label": `Disconnect ${user}, connection ${id}` }, "Disconnect…");
    end.addEventListener("click", () => this.#disconnect({ connection_id: id }, `one connection of user ${user}`));
    return el(
      "tr",
      {},
      el("th", { scope: "row", class: "name" }, user),
      el("td", { class: "subjects" }, ...subjects.map((subject) => el("span", { class: "tag" }, subject))),
      el("td", {}, timeElement(connection.connected_at * 1000)),
      el("td", {}, timeElement(connection.last_seen_at * 1000)),
      el("td", { class: "mono" }, id),
      el("td", { class: "n" }, end),
    );
  }

  async #disconnect(selector, what) {
    const reason = await confirm({
      title: "Disconnect?",
      text: `This closes ${what} at this gateway with code 4403. Clients may connect again.`,
      ok: "Disconnect",
      danger: true,
      field: { label: "Reason, which the client is told (optional)", properties: { maxLength: 120 } },
    });
    if (reason === null) return;
    try {
      const { disconnected } = await call("disconnect", {
        method: "POST",
        body: { ...selector, ...(reason.trim() && { reason: reason.trim() }) },
      });
      await this.search();
      this.#tell(
        disconnected > 0 ? "ok" : "bad",
        disconnected > 0 ? `${plural(disconnected, "connection")} asked to close.` : "None closed: there was none left at this gateway; another one may have it.",
      );
    } catch (error) {
      this.#tell("bad", told(error));
    }
  }

  #tell(state, text) {
    byId("connections-result").dataset.state = state;
    setText(byId("connections-result"), text);
  }
}
