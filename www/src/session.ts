// The token: in this tab's sessionStorage and nowhere else. It is gone when the tab is closed.
import { useEffect, useState } from 'preact/hooks';

const KEY = 'hedgerow.token';
const CHANGED = 'hedgerow:token';

export function token(): string | null {
  return sessionStorage.getItem(KEY);
}

export function setToken(value: string | null) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
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
