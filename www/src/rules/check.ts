// Checks the files in a core of their own, a moment after the last change; one check at a time, and answers that are
// outdated are dropped.
import { useEffect, useState } from 'preact/hooks';
import { Core, type Exemplar, type Report } from '../core/core.ts';
import type { Files } from './store.ts';

const PAUSE = 300;

interface Result {
  files: Files;
  report: Report | null;
  problem: string | null;
}

/** `report` is the last one; while `running` it tells of files as they were. */
export interface Checked {
  report: Report | null;
  problem: string | null;
  running: boolean;
}

let checker: Core | undefined;
let last: Result | null = null;
let busy: Promise<unknown> = Promise.resolve();

async function check(files: Files): Promise<Result> {
  try {
    return { files, report: await (checker ??= new Core()).check(files), problem: null };
  } catch (error) {
    checker?.end();
    checker = undefined;
    return { files, report: null, problem: error instanceof Error ? error.message : String(error) };
  }
}

export function useCheck(files: Files): Checked {
  const [result, set] = useState(last);
  useEffect(() => {
    if (last?.files === files) return;
    let outdated = false;
    const run = async () => {
      await busy;
      if (outdated) return;
      const own = check(files);
      busy = own;
      last = await own;
      if (!outdated) set(last);
    };
    const timer = setTimeout(() => void run(), last ? PAUSE : 0);
    return () => {
      outdated = true;
      clearTimeout(timer);
    };
  }, [files]);
  return { report: result?.report ?? null, problem: result?.problem ?? null, running: result?.files !== files };
}

/** How many exemplars come out as expected. */
export const fine = ({ exemplars }: Report) => exemplars.filter(({ expected, matches }) => expected === matches).length;

/** In words: what an exemplar should do, and what it does. */
export function verdict({ expected, matches }: Exemplar): string {
  if (expected === matches) return matches ? 'matches, as expected' : 'does not match, as expected';
  return matches ? 'matches, but should not' : 'does not match, but should';
}
