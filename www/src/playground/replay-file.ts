// Holds the loaded file of recorded traffic until the page is closed. The playground replays the
// file, and the view Rules shows how an edit changes its results.
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
