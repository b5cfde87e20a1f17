// Drafts of entries in rules/policy.toml; src/core/rules/policy.rs defines their members.

export interface ExemptionDraft {
  kind: 'accounts' | 'cluster';
  cluster: string;
  name: string;
  reason: string;
  /** The last day of the exemption, such as 2027-01-31. */
  until: string;
  /** Ids of the accounts; null until the user edits the list. */
  accounts: readonly string[] | null;
}

/** Returns the missing or invalid value, with its remedy; null if the draft is valid. */
export function validationError(draft: ExemptionDraft): string | null {
  const { kind, name, reason, until, accounts } = draft;
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(name)) {
    return 'Enter a name of lower-case letters, digits, hyphens and underscores.';
  }
  if (!reason.trim()) return 'Enter a reason.';
  if (!/^\d{4}-\d\d-\d\d$/.test(until)) return 'Choose the last day.';
  if (endOfDay(until) <= Date.now()) return 'The last day is in the past: choose a later day.';
  if (kind === 'cluster') return null;
  const ids = (accounts ?? []).filter(Boolean);
  if (!ids.length) return 'Enter at least one account: its 32 digits, as decisions show them.';
  const invalid = ids.find((account) => !/^[0-9a-f]{32}$/.test(account));
  return invalid ? `“${invalid}” is not an account: expected 32 digits, 0-9 and a-f.` : null;
}

/** Returns the end of a day in milliseconds since the epoch. The policy counts days in UTC. */
const endOfDay = (day: string) => Date.parse(day) + 86_400_000;

/** Returns the entries of `policy.toml` for a draft. */
export const toToml = (draft: ExemptionDraft) =>
  draft.kind === 'cluster' ? clusterEntry(draft) : exemptionEntries(draft);

/** Returns an entry with a unique name for each account. */
function exemptionEntries({ name, reason, until, accounts }: ExemptionDraft): string {
  const ids = [...new Set((accounts ?? []).filter(Boolean))];
  const entry = (account: string, index: number) =>
    [
      '[[exemption]]',
      `name = ${quote(index ? `${name}-${index + 1}` : name)}`,
      `account = ${quote(account)}`,
      `reason = ${quote(reason)}`,
      `until = ${until}`,
    ].join('\n');
  return `${ids.map(entry).join('\n\n')}\n`;
}

function clusterEntry({ cluster, name, reason, until }: ExemptionDraft): string {
  const comment = `# ${name}: ${toLine(reason)}. Remove it after ${until}.`;
  return `${comment}\n[[cluster]]\nid = ${quote(cluster)}\nmode = "shadow"\n`;
}

/** Returns the command that releases the exemption. A valid name needs no quoting in a shell. */
export const pushCommand = ({ name }: ExemptionDraft) =>
  `npm run hedgerow -- push --release --note "exemption ${name}" --wait`;

/**
 * Returns a TOML string: JSON has the same escapes. (It does not escape DEL; `toLine` removes it.)
 */
const quote = (value: string) => JSON.stringify(toLine(value));

/** Replaces white space and control characters by single spaces. */
const toLine = (value: string) =>
  value
    .toWellFormed()
    .replace(/[\p{Cc}\s]+/gu, ' ')
    .trim();
