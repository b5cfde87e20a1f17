// The token: in this tab's sessionStorage and nowhere else; in the page's memory where storage is blocked.
import { useEffect, useState } from 'preact/hooks';

const KEY = 'hedgerow.token';
const CHANGED = 'hedgerow:token';
let memory: string | null = null;

/** Uses storage, which browsers may block: then even to name it throws. */
export function attempt<T>(use: () => T): T | null {
  try {
    return use();
  } catch {
    return null;
  }
}

export function token(): string | null {
  return memory ?? attempt(() => sessionStorage.getItem(KEY));
}

export function setToken(value: string | null) {
  attempt(() => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)));
  memory = null;
  if (token() !== value) memory = value;
  dispatchEvent(new Event(CHANGED));
}

export function useToken(): string | null {
  const [current, set] = useState(token);
  useEffect(() => {
    const changed = () => set(token());
    addEventListener(CHANGED, changed);
    return () => removeEventListener(CHANGED, changed);
  }, []);
  return current;
}
