// Drafts of entries in rules/policy.toml; src/core/rules/policy.rs defines their members.

export interface ExemptionDraft {
  kind: 'accounts' | 'tenants';
  /** Name; empty for a name made of each id. */
  name: string;
  reason: string;
  /** The last day of the exemption, such as 2027-01-31. */
  until: string;
  /** Ids of the accounts or tenants; null until the user edits the list. */
  ids: readonly string[] | null;
  /** Signatures that do not count; empty to allow the requests whatever their score. */
  signatures: readonly string[];
}

/**
 * Returns a message about a missing or invalid value, with a remedy. Returns null if the draft is
 * valid.
 */
export function validationError(draft: ExemptionDraft): string | null {
  const { kind, name, reason, until } = draft;
  if (name && !/^[a-z0-9][a-z0-9_-]*$/.test(name)) {
    return 'Enter a name of lower-case letters, digits, hyphens and underscores.';
  }
  if (!reason.trim()) return 'Enter a reason.';
  if (!/^\d{4}-\d\d-\d\d$/.test(until)) return 'Choose the last day.';
  if (endOfDay(until) <= Date.now()) return 'The last day is in the past: choose a later day.';
  const noun = nounOf(kind);
  const ids = idsOf(draft);
  if (!ids.length) return `Enter at least one ${noun}: its 32 digits, as decisions show them.`;
  const invalid = ids.find((id) => !/^[0-9a-f]{32}$/.test(id));
  return invalid ? `“${invalid}” is not an id: expected 32 digits, 0-9 and a-f.` : null;
}

/** Returns the end of a day in milliseconds since the epoch. The policy counts days in UTC. */
const endOfDay = (day: string) => Date.parse(day) + 86_400_000;

const nounOf = (kind: ExemptionDraft['kind']) => (kind === 'accounts' ? 'account' : 'tenant');

const idsOf = ({ ids }: ExemptionDraft) => [...new Set((ids ?? []).filter(Boolean))];

/**
 * Returns the names of the exemptions. Without a name of the user, an exemption is named after its
 * account or tenant, because it applies to nobody else.
 */
function namesOf(draft: ExemptionDraft): string[] {
  const { kind, name } = draft;
  return idsOf(draft).map((id, index) => {
    if (!name) return `${nounOf(kind)}-${id.slice(0, 12)}`;
    return index ? `${name}-${index + 1}` : name;
  });
}

/** Returns the entries of `policy.toml` for a draft, with a unique name for each id. */
export function toToml(draft: ExemptionDraft): string {
  const { kind, reason, until, signatures } = draft;
  const names = namesOf(draft);
  const entry = (id: string, index: number) =>
    [
      '[[exemption]]',
      `name = ${quote(names[index]!)}`,
      `${nounOf(kind)} = ${quote(id)}`,
      ...(signatures.length ? [`signatures = [${signatures.map(quote).join(', ')}]`] : []),
      `reason = ${quote(reason)}`,
      `until = ${until}`,
    ].join('\n');
  return `${idsOf(draft).map(entry).join('\n\n')}\n`;
}

/** Returns the command that releases the exemptions. A valid name needs no quoting in a shell. */
export function exemptionCommand(draft: ExemptionDraft): string {
  const [name, ...others] = namesOf(draft);
  return pushCommand(`exemption ${name}${others.length ? ` and ${others.length} more` : ''}`);
}

/** Returns the command that releases the rules with a note. */
const pushCommand = (note: string) =>
  `npm run hedgerow -- push --release --note "${note}" --wait`;

/** Returns the entry of `policy.toml` for another weight of a signature; 0 switches it off. */
export function toWeightToml(name: string, weight: number): string {
  const setting = weight ? `weight = ${decimal(weight)}` : 'off = true';
  return `[[signature]]\nname = ${quote(name)}\n${setting}\n`;
}

/** Returns the command that releases another weight. The name may contain any characters. */
export const weightCommand = (name: string, weight: number) =>
  pushCommand(`${name.replace(/[^\w.-]/g, '_')} weighs ${weight}`);

/** Formats a number as a TOML float. */
const decimal = (value: number) => (Number.isInteger(value) ? value.toFixed(1) : String(value));

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

/**
 * Returns the UTC date after `months` months, as YYYY-MM-DD. If that month does not have the day,
 * returns its last day. `now` is in milliseconds since the epoch.
 */
export function dayInMonths(months: number, now = Date.now()): string {
  const date = new Date(now);
  const day = date.getUTCDate();
  date.setUTCMonth(date.getUTCMonth() + months);
  if (date.getUTCDate() !== day) date.setUTCDate(0);
  return date.toISOString().slice(0, 10);
}
