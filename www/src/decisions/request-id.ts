import { findRequestId } from './appeal.ts';

/**
 * Returns the request id in a pasted text, such as a header line or a member of a JSON object, with
 * or without quotes; or the request id that an appeal reference means. Returns other texts
 * unchanged, apart from quotes and space around them: they may be the first digits of an id.
 */
export function requestIdIn(text: string): string {
  const { id } = findRequestId(text);
  if (id) return id;
  const value = /request[-_ ]?id["'\s]*[:=]\s*["'`]?([^"'`\s,;}]+)/i.exec(text)?.at(1) ?? text;
  return value.trim().replace(/^["'`\s]+|["'`\s,;}]+$/g, '');
}
