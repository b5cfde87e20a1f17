/**
 * Returns the request id in a pasted text, such as a header line or a member of a JSON object, with
 * or without quotes. Returns other texts unchanged, apart from quotes and space around them: they
 * may be the first digits of an id.
 */
export function requestIdIn(text: string): string {
  const own = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/i.exec(text)?.at(0);
  if (own) return own.toLowerCase();
  const value = /request[-_ ]?id["'\s]*[:=](.+)$/is.exec(text)?.at(1) ?? text;
  return value.trim().replace(/^["'`\s]+|["'`\s,;}]+$/g, '');
}
