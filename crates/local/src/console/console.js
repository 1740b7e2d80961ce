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

/** Shows a card with facts, each a name, a text, and whether the reader should notice it. The card stays in the page,
 * so that its button keeps the focus. */
function showCard(id, title, figure, meter, facts) {
  let card = byId(id);
  if (!card) {
    card = element("div", { className: "card", id }, element("div"));
    byId("cards").append(card);
  }
  const rows = facts.flatMap(([name, text, notable]) =>
    [element("dt", {}, name), element("dd", { className: notable ? "alert" : "" }, text)]);
  card.firstChild.replaceChildren(element("h3", {}, title), element("div", { className: "figure" }, figure), meter,
    element("dl", {}, ...rows));
  return card;
}

/** Codes are words with underscores. */
const words = (code) => code.replaceAll("_", " ");

function showLogins({ logins, status }) {
  const { permits, login_budget: budget, next_login_at: next, delayed_by: reason } = status.login_limiter;
  const meter = bar("logins in the last minute", logins.last_minute, logins.limit);
  const usedUp = status.accounts.filter(({ cooldown }) => cooldown?.reason === "login_budget_exhausted");
  const others = usedUp.length ? `, but not of ${usedUp.map(({ account }) => account).join(", ")}: its share is used up` : "";
  return showCard("logins", "Logins in the last minute", `${logins.last_minute} of ${logins.limit}`, meter, [
    ["permits in use", `${permits} of the broker's ${budget}`, permits >= budget],
    ["next login", next ? `in ${span(Date.parse(next) - Date.parse(status.now))}: ${words(reason)}` : `at once${others}`,
      next || others],
  ]);
}

/** What keeps the broker from renewing the account's pair. */
function heldBy(account, now) {
  const { rejected_secret_version: rejected, cooldown, lease_until: lease, reports_ignored_until: ignored } = account;
  const left = (time) => span(Date.parse(time) - now);
  if (rejected) return "the password, which Convirza rejected";
  if (cooldown) return `${words(cooldown.reason)}, for ${left(cooldown.until)}`;
  if (lease) return `the lease of an instance that renews, for ${left(lease)}`;
  if (ignored) return `early deaths: reports are ignored for ${left(ignored)}`;
  return "";
}

function showAccount(account, now) {
  const until = (time) => span(Date.parse(time) - now);
  const { account: name, generation, issued_at: issued, expires_at: expires, young_deaths: deaths = 0 } = account;
  const alive = generation !== null && generation !== undefined;
  const dead = account.verdict === "dead";
  const [left, life] = alive && !dead ? [Date.parse(expires) - now, Date.parse(expires) - Date.parse(issued)] : [0, 1];
  const meter = element("div", { className: "bar" }, element("i"));
  meter.firstChild.style.width = `${Math.max(0, Math.min(100, (100 * left) / life))}%`;
  const held = heldBy(account, now);
  const card = showCard(`account-${name}`, `Account ${name}: life left`,
    dead ? "dead" : alive ? until(expires) : "no token", meter, [
      ["generation", alive ? `${generation}` : "none"],
      ["last verdict", account.verdict ?? "–", dead],
      ["early deaths", deaths ? `${deaths} in a row` : "none", deaths],
      ["renewal", dead ? "with the next request" : alive ? `due in ${until(account.due_at)}` : "–"],
      ["held back by", held || "nothing", held],
      ...(account.unreadable ? [["record", "unreadable", true]] : []),
    ]);
  if (!card.lastChild.matches("button")) {
    const button = element("button", { id: `unblock-${name}` }, "Unblock");
    button.addEventListener("click", () => send({ do: "unblock", account: name }));
    card.append(button);
  }
  const { cooldown, rejected_secret_version: rejected, reports_ignored_until: ignored } = account;
  // It cannot bring permits back.
  card.lastChild.hidden = !(rejected || ignored || (cooldown && cooldown.reason !== "login_budget_exhausted"));
  return card;
}

/** Why callers fail, and what to do. */
function whyFailed({ status, faults, callers, memory_ttl_seconds: remembered }) {
  const now = Date.parse(status.now);
  const left = (time) => span(Date.parse(time) - now);
  const account = status.accounts.find((known) => known.account === "default") ?? {};
  const { cooldown, rejected_secret_version: rejected, reports_ignored_until: ignored, young_deaths: deaths } = account;
  const on = faults.filter(({ planned }) => planned).map(({ label, planned }) => `${label}: ${words(planned)}`);
  const fix = on.length ? `A fault is on (${on.join(", ")}): set it to “works”. ` : "";
  if (account.unreadable) return "The stored record cannot be read. Reset starts again.";
  if (rejected) {
    return `${fix}Convirza rejected the password. The broker does not send it again for hours, since that could lock the ` +
      "user out. Unblock, in the account's card, allows another attempt.";
  }
  if (cooldown?.reason === "login_budget_exhausted") {
    return `${fix}The account has used up its share of the broker's logins for now, so the broker waits ${left(cooldown.until)} ` +
      "rather than exceed Convirza's limit. Reset starts again.";
  }
  if (cooldown) {
    return `${fix}After ${words(cooldown.reason)}, the broker pauses for ${left(cooldown.until)}. Unblock, in the ` +
      "account's card, ends the pause.";
  }
  if (ignored) {
    return `${fix}${deaths} generations in a row died within two hours. Perhaps the callers' 401s have another cause, so ` +
      `for ${left(ignored)} the broker ignores reports of this generation. Unblock, in the account's card, forgets the deaths.`;
  }
  if (!fix && callers.some(({ note }) => note === "API: unauthorized")) {
    return `Instances keep what they have read for up to ${remembered} s. A report after that replaces the pair.`;
  }
  return fix || "Each tile shows the code of its error; docs/API.md explains them.";
}

function showCallers(state) {
  const tiles = state.callers.map(({ generation, state: outcome, note }, index) =>
    element("li", { className: outcome },
      element("b", {}, `${index + 1}: ${generation === null ? "no token" : short(generation)}`),
      element("span", {}, words(note) || "has not called yet")));
  byId("callers").replaceChildren(...tiles);
  const count = (wanted) => state.callers.filter(({ state: outcome }) => outcome === wanted).length;
  const [failed, healed, busy] = [count("failed"), count("healed"), count("busy")];
  const { cooldown, rejected_secret_version: rejected, reports_ignored_until: ignored } =
    state.status.accounts.find(({ account }) => account === "default") ?? {};
  const text = failed ? `${failed} failed. ${whyFailed(state)}`
    : healed ? `${healed} got a 401 and reported it. The first report replaced the pair; the others got the new one from the table.`
    : busy && (cooldown || rejected) ? whyFailed(state)
    : ignored ? `After this many early deaths, the broker ignores reports of a revoked token for ${span(Date.parse(ignored) - Date.parse(state.status.now))}.`
    : "Let all use the API, revoke upstream, and let all use the API again: the first report heals all of them.";
  const hint = byId("hint");
  // A screen reader is told of a change only.
  if (hint.textContent !== text) Object.assign(hint, { textContent: text, className: failed ? "trouble" : "" });
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
  const shown = [showLogins(state), ...accounts.map((account) => showAccount(account, now))];
  for (const card of [...byId("cards").children]) if (!shown.includes(card)) card.remove();
  byId("reset").hidden = !state.can_reset;
  showCallers(state);
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
byId("reset").addEventListener("click", () => send({ do: "reset" }));
// A phone has no room for them.
byId("fold").open = !matchMedia("(max-width: 40rem)").matches;
let ticks = 0;
async function tick() {
  ticks += 1;
  await send(byId("repeat").checked && ticks % 2 ? { do: "call" } : undefined);
  setTimeout(tick, 500);
}
tick();
