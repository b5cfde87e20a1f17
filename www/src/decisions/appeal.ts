// Appeal references: request ids in a form that people can read aloud, type and paste. The same as
// src/core/enforce/appeal.rs, which describes the form.

/** Crockford's alphabet, which lacks I, L, O and U. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const SYMBOLS = 26;
const UUID_7 = /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/i;
const UUIDS = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi;

/** Returns the appeal reference of a request id; null if the id is not a UUID of version 7. */
export function referenceOf(id: string): string | null {
  if (UUID_7.exec(id)?.[0] !== id) return null;
  const value = BigInt(`0x${id.replaceAll('-', '')}`);
  const bits =
    ((value >> 80n) << 74n) | (((value >> 64n) & 0xfffn) << 62n) | BigInt.asUintN(62, value);
  const all = (bits << 8n) | BigInt(check(bits));
  const symbols = Array.from({ length: SYMBOLS }, (_, index) => {
    const value = Number((all >> BigInt(5 * (SYMBOLS - 1 - index))) & 31n);
    return (index % 5 || index === 0 || index === 25 ? '' : '-') + ALPHABET[value]!;
  });
  return symbols.join('');
}

/**
 * Returns the first request id in a pasted text, such as a header line; otherwise the id that the
 * first appeal reference means; otherwise the first UUID of another version, which may be any other
 * id of the customer; null if the text has none of them. `mistyped` is true if the text has no UUID
 * and a reference with a wrong, a missing or an additional symbol.
 */
export function findRequestId(text: string): { id: string | null; mistyped: boolean } {
  const requestId = UUID_7.exec(text)?.[0];
  if (requestId) return { id: requestId.toLowerCase(), mistyped: false };
  // The digits of a UUID are not symbols of a reference.
  const words = text.replace(UUIDS, '|').split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  let mistyped = false;
  for (let start = 0; start < words.length; start++) {
    for (let end = start + 1; end <= words.length; end++) {
      const joined = words.slice(start, end).join('');
      if (joined.length > SYMBOLS + 1) break;
      const id = decode(joined);
      if (id) return { id, mistyped: false };
      mistyped ||= isAlmostReference(joined, words.slice(start, end));
    }
  }
  const other = text.match(UUIDS)?.[0]?.toLowerCase() ?? null;
  return { id: other, mistyped: mistyped && other === null };
}

/** Returns the values of symbols; null if a character is not a symbol. */
function valuesOf(text: string): number[] | null {
  const plain = text.toUpperCase().replaceAll('O', '0').replaceAll(/[IL]/g, '1');
  const values = [...plain].map((symbol) => ALPHABET.indexOf(symbol));
  return values.includes(-1) ? null : values;
}

/** Returns the request id of 26 symbols; null if the text is not a reference. */
function decode(text: string): string | null {
  const values = text.length === SYMBOLS ? valuesOf(text) : null;
  if (!values) return null;
  const all = values.reduce((all, value) => (all << 5n) | BigInt(value), 0n);
  const bits = all >> 8n;
  if (Number(all & 0xffn) !== check(bits)) return null;
  const id =
    ((bits >> 74n) << 80n) |
    (7n << 76n) |
    (((bits >> 62n) & 0xfffn) << 64n) |
    (2n << 62n) |
    BigInt.asUintN(62, bits);
  const digits = id.toString(16).padStart(32, '0');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/**
 * Returns whether joined words have 26 symbols, or look like the groups of a reference with a
 * wrong, a missing or an additional symbol. Two digits distinguish a reference from prose.
 */
function isAlmostReference(text: string, words: readonly string[]): boolean {
  const isGrouped =
    words.length === 5 &&
    words.every(({ length }) => length >= 4 && length <= 7) &&
    Math.abs(text.length - SYMBOLS) <= 1;
  const hasDigits = text.replace(/\D/g, '').length >= 2;
  return hasDigits && (isGrouped || (text.length === SYMBOLS && valuesOf(text) !== null));
}

/** Returns the check of the 122 bits of a reference: CRC-8. */
function check(bits: bigint): number {
  let crc = 0;
  for (let index = 121n; index >= 0n; index--) {
    const isOdd = (crc >> 7) ^ Number((bits >> index) & 1n);
    crc = ((crc << 1) & 0xff) ^ (isOdd ? 7 : 0);
  }
  return crc ^ 0x55;
}
