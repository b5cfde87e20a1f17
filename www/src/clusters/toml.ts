// Entries of rules/policy.toml; src/policy.rs has their members.

export interface Wish {
  kind: 'accounts' | 'cluster';
  cluster: string;
  name: string;
  reason: string;
  /** The last day, such as 2027-01-31. */
  until: string;
  /** Null until somebody has chosen. */
  accounts: readonly string[] | null;
}

/** What is missing yet, and what to do. */
export function complaint({ kind, name, reason, until, accounts }: Wish): string | null {
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(name)) return 'Give it a name of small letters, digits and hyphens.';
  if (!reason.trim()) return 'Say why.';
  if (!/^\d{4}-\d\d-\d\d$/.test(until)) return 'Choose the last day.';
  if (endOf(until) <= Date.now()) return 'The last day is over: choose a later one.';
  if (kind === 'cluster') return null;
  const own = (accounts ?? []).filter(Boolean);
  if (!own.length) return 'Name at least one account: its 32 digits, as decisions show them.';
  const wrong = own.find((account) => !/^[0-9a-f]{32}$/.test(account));
  return wrong ? `“${wrong}” is no account: those have 32 digits, 0-9 and a-f.` : null;
}

/** The policy counts days in UTC, and the last one to its end. */
const endOf = (day: string) => Date.parse(day) + 86_400_000;

export const toml = (wish: Wish) => (wish.kind === 'cluster' ? watched(wish) : allowed(wish));

/** Names are unique, and an entry names one account. */
function allowed({ name, reason, until, accounts }: Wish): string {
  const own = [...new Set((accounts ?? []).filter(Boolean))];
  const entry = (account: string, index: number) =>
    ['[[exemption]]', `name = ${text(index ? `${name}-${index + 1}` : name)}`, `account = ${text(account)}`, `reason = ${text(reason)}`, `until = ${until}`].join('\n');
  return `${own.map(entry).join('\n\n')}\n`;
}

function watched({ cluster, name, reason, until }: Wish): string {
  return `# ${name}: ${line(reason)}. Remove it after ${until}.\n[[cluster]]\nid = ${text(cluster)}\nmode = "shadow"\n`;
}

/** The name is nothing that a shell would read in another way. */
export const command = ({ name }: Wish) => `npm run hedgerow -- push --release --note "exemption ${name}" --wait`;

/** JSON's escapes are TOML's, but for DEL, which it lets stand. */
const text = (value: string) => JSON.stringify(line(value));
const line = (value: string) => value.toWellFormed().replace(/[\p{Cc}\s]+/gu, ' ').trim();
