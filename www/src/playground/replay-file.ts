// The file of recorded traffic that is loaded. The playground replays it, and the view Rules shows
// the effect of an edit on it. It is forgotten when the page is closed.
import { useEffect, useState } from 'preact/hooks';

const CHANGED = 'hedgerow:replay-file';
let file: File | null = null;

export function setReplayFile(next: File | null) {
  file = next;
  dispatchEvent(new Event(CHANGED));
}

export function useReplayFile(): File | null {
  const [current, setCurrent] = useState(file);
  useEffect(() => {
    const update = () => setCurrent(file);
    addEventListener(CHANGED, update);
    update();
    return () => removeEventListener(CHANGED, update);
  }, []);
  return current;
}
