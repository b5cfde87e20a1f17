// Stores the token in the tab's sessionStorage, or in memory if the browser blocks storage.
import { useEffect, useState } from 'preact/hooks';

const KEY = 'hedgerow.token';
const CHANGED = 'hedgerow:token';
let memory: string | null = null;

/**
 * Calls `use`, and returns null if the call throws. If a browser blocks storage, even reading the
 * property `sessionStorage` throws.
 */
export function tryStorage<T>(use: () => T): T | null {
  try {
    return use();
  } catch {
    return null;
  }
}

/** Returns the token, or null if the user is not signed in. */
export function token(): string | null {
  return memory ?? tryStorage(() => sessionStorage.getItem(KEY));
}

/** Stores the token; null removes it. */
export function setToken(value: string | null) {
  tryStorage(() => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)));
  memory = null;
  if (token() !== value) memory = value;
  dispatchEvent(new Event(CHANGED));
}

/** Returns the token, and renders again when it changes. */
export function useToken(): string | null {
  const [current, setCurrent] = useState(token);
  useEffect(() => {
    const update = () => setCurrent(token());
    addEventListener(CHANGED, update);
    return () => removeEventListener(CHANGED, update);
  }, []);
  return current;
}
