// Shows what /console.json says, twice a second. All text is set as text, so nothing in it is taken for markup.
"use strict";

const byId = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A time of this many milliseconds, in its two largest units. */
function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(0, units.findIndex(([size]) => seconds >= size));
  const parts = units.slice(seconds ? first : 3).slice(0, 2).map(([size, unit], index) => {
    const all = Math.floor(seconds / size);
    return `${index ? all % (units[first][0] / size) : all} ${unit}`;
  });
  return parts.join(" ");
}

function bar(label, value, most) {
  const filled = element("i");
  filled.style.width = `${Math.min(100, (100 * value) / most)}%`;
  const made = element("div", { className: value >= most ? "bar full" : "bar", role: "meter", ariaLabel: label }, filled);
  for (const [name, number] of [["valuemin", 0], ["valuemax", most], ["valuenow", value]]) {
    made.setAttribute(`aria-${name}`, Math.round(number));
  }
  return made;
}

/** Generations grow with the time, so their last digits tell them apart. */
const short = (generation) => `…${String(generation).slice(-6)}`;

/** A card with facts, each a name, a text, and whether the reader should notice it. */
function card(id, title, figure, meter, facts) {
  const rows = facts.flatMap(([name, text, notable]) =>
    [element("dt", {}, name), element("dd", { className: notable ? "alert" : "" }, text)]);
  return element("div", { className: "card", id }, element("h3", {}, title),
    element("div", { className: "figure" }, figure), meter, element("dl", {}, ...rows));
}

function loginCard({ logins, status }) {
  const { permits, login_budget: budget, next_login_at: next, delayed_by: reason } = status.login_limiter;
  const meter = bar("logins in the last minute", logins.last_minute, logins.limit);
  return card("logins", "Logins in the last minute", `${logins.last_minute} of ${logins.limit}`, meter, [
    ["permits in use", `${permits} of the broker's ${budget}`, permits >= budget],
    ["next login", next ? `in ${span(Date.parse(next) - Date.parse(status.now))}: ${reason}` : "at once", next],
  ]);
}

function accountCard(account, now) {
  const until = (time) => span(Date.parse(time) - now);
  const { generation, issued_at: issued, expires_at: expires, due_at: due, cooldown } = account;
  const alive = generation !== null && generation !== undefined;
  const dead = account.verdict === "dead";
  const [left, life] = alive && !dead ? [Date.parse(expires) - now, Date.parse(expires) - Date.parse(issued)] : [0, 1];
  const meter = element("div", { className: "bar" }, element("i"));
  meter.firstChild.style.width = `${Math.max(0, Math.min(100, (100 * left) / life))}%`;
  return card(`account-${account.account}`, `Account ${account.account}: life left`,
    dead ? "dead" : alive ? until(expires) : "no token", meter, [
      ["generation", alive ? `${generation}` : "none"],
      ["last probe", account.verdict ?? "–", dead],
      ["refresh", alive ? `due in ${until(due)}` : "–"],
      ["lease", account.lease_until ? `held, ends in ${until(account.lease_until)}` : "free", account.lease_until],
      ["cooldown", cooldown ? `${until(cooldown.until)}: ${cooldown.reason}` : "none", cooldown],
      ...(account.rejected_secret_version ? [["secret", "rejected by Convirza", true]] : []),
      ...(account.unreadable ? [["record", "unreadable", true]] : []),
    ]);
}

function showCallers(callers) {
  const tiles = callers.map(({ generation, state, note }, index) =>
    element("li", { className: state },
      element("b", {}, `${index + 1}: ${generation === null ? "no token" : short(generation)}`),
      element("span", {}, note.replaceAll("_", " ") || "has not called yet")));
  byId("callers").replaceChildren(...tiles);
  const healed = callers.filter(({ state }) => state === "healed").length;
  byId("hint").textContent = healed
    ? `${healed} got a 401 and reported it. The first report replaced the pair; the others got the new one from the table.`
    : "Let all use the API, revoke upstream, and let all use the API again: the first report heals all of them.";
}

function showFaults(faults) {
  const switches = byId("switches");
  for (const { place, label, faults: names, planned } of faults) {
    let select = byId(`fault-${place}`);
    if (!select) {
      select = element("select", { id: `fault-${place}` },
        ...["", ...names].map((name) => element("option", { value: name }, name || "works")));
      select.addEventListener("change", () => send({ do: "fault", place, fault: select.value || null }));
      switches.append(element("label", {}, label, select));
    }
    if (document.activeElement !== select) select.value = planned ?? "";
    select.className = planned ? "on" : "";
  }
}

function show(state) {
  const { status, convirza, table } = state;
  const now = Date.parse(status.now);
  const accounts = status.accounts.length ? status.accounts : [{ account: "default" }];
  byId("cards").replaceChildren(loginCard(state), ...accounts.map((account) => accountCard(account, now)));
  showCallers(state.callers);
  showFaults(state.faults);
  const lines = state.events.length ? state.events : ["none yet"];
  byId("log").replaceChildren(...lines.map((line) => element("li", {}, line)));
  byId("totals").textContent = `Since the start: ${convirza.logins_arrived} logins, ${convirza.logins_limited} ` +
    `of them refused by the limit; ${convirza.refreshes} refreshes; table: ${table.reads} reads, ` +
    `${table.writes} writes, ${table.conditional_conflicts} conflicts.`;
}

async function send(command) {
  const options = command && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(command) };
  try {
    const response = await fetch("/console.json", { ...options, signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
    Object.assign(byId("connection"), { textContent: "live", className: "live" });
  } catch (error) {
    Object.assign(byId("connection"), { textContent: `no connection: ${error.message}`, className: "lost" });
  }
}

byId("call").addEventListener("click", () => send({ do: "call" }));
byId("revoke").addEventListener("click", () => send({ do: "revoke" }));
let ticks = 0;
async function tick() {
  ticks += 1;
  await send(byId("repeat").checked && ticks % 2 ? { do: "call" } : undefined);
  setTimeout(tick, 500);
}
tick();
