// The recorded traffic that was loaded: the playground replays it, and the rules view shows by it what an edit does.
// It is only kept as long as the page is open.
import { useEffect, useState } from 'preact/hooks';

const CHANGED = 'hedgerow:loaded';
let file: File | null = null;

export function setLoadedFile(next: File | null) {
  file = next;
  dispatchEvent(new Event(CHANGED));
}

export function useLoadedFile(): File | null {
  const [current, set] = useState(file);
  useEffect(() => {
    const changed = () => set(file);
    addEventListener(CHANGED, changed);
    changed();
    return () => removeEventListener(CHANGED, changed);
  }, []);
  return current;
}
