// Drafts of entries in rules/policy.toml; src/core/rules/policy.rs defines their members.

export interface ExemptionDraft {
  kind: 'accounts' | 'tenants';
  name: string;
  reason: string;
  /** The last day of the exemption, such as 2027-01-31. */
  until: string;
  /** Ids of the accounts or tenants; null until the user edits the list. */
  ids: readonly string[] | null;
}

/**
 * Returns a message about a missing or invalid value, with a remedy. Returns null if the draft is
 * valid.
 */
export function validationError(draft: ExemptionDraft): string | null {
  const { kind, name, reason, until } = draft;
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(name)) {
    return 'Enter a name of lower-case letters, digits, hyphens and underscores.';
  }
  if (!reason.trim()) return 'Enter a reason.';
  if (!/^\d{4}-\d\d-\d\d$/.test(until)) return 'Choose the last day.';
  if (endOfDay(until) <= Date.now()) return 'The last day is in the past: choose a later day.';
  const noun = nounOf(kind);
  const ids = (draft.ids ?? []).filter(Boolean);
  if (!ids.length) return `Enter at least one ${noun}: its 32 digits, as decisions show them.`;
  const invalid = ids.find((id) => !/^[0-9a-f]{32}$/.test(id));
  return invalid ? `“${invalid}” is not an id: expected 32 digits, 0-9 and a-f.` : null;
}

/** Returns the end of a day in milliseconds since the epoch. The policy counts days in UTC. */
const endOfDay = (day: string) => Date.parse(day) + 86_400_000;

const nounOf = (kind: ExemptionDraft['kind']) => (kind === 'accounts' ? 'account' : 'tenant');

/** Returns the entries of `policy.toml` for a draft, with a unique name for each id. */
export function toToml({ kind, name, reason, until, ids }: ExemptionDraft): string {
  const entry = (id: string, index: number) =>
    [
      '[[exemption]]',
      `name = ${quote(index ? `${name}-${index + 1}` : name)}`,
      `${nounOf(kind)} = ${quote(id)}`,
      `reason = ${quote(reason)}`,
      `until = ${until}`,
    ].join('\n');
  return `${[...new Set((ids ?? []).filter(Boolean))].map(entry).join('\n\n')}\n`;
}

/** Returns the command that releases the exemption. A valid name needs no quoting in a shell. */
export const pushCommand = ({ name }: ExemptionDraft) =>
  `npm run hedgerow -- push --release --note "exemption ${name}" --wait`;

/**
 * Returns a TOML string. JSON has the same escapes, except that it does not escape DEL, which
 * `toLine` removes.
 */
const quote = (value: string) => JSON.stringify(toLine(value));

/** Replaces white space and control characters by single spaces. */
const toLine = (value: string) =>
  value
    .toWellFormed()
    .replace(/[\p{Cc}\s]+/gu, ' ')
    .trim();
