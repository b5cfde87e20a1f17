// Checks the files in a separate core, shortly after the last change. Only one check runs at a
// time. Results for outdated files are dropped.
import { useEffect, useState } from 'preact/hooks';
import { Core, type ExemplarResult, type Report, type Verdict } from '../core/core.ts';
import type { Files } from './drafts.ts';

/** Milliseconds between the last change and the check. */
const CHECK_DELAY = 300;

interface Result {
  files: Files;
  report: Report | null;
  problem: string | null;
}

export interface Checked {
  /** The last report. While `isRunning` is true, the report is about older files. */
  report: Report | null;
  problem: string | null;
  isRunning: boolean;
}

let checker: Core | undefined;
let last: Result | null = null;
let running: Promise<unknown> = Promise.resolve();

async function check(files: Files): Promise<Result> {
  try {
    checker ??= new Core();
    return { files, report: await checker.check(files), problem: null };
  } catch (error) {
    checker?.end();
    checker = undefined;
    const problem = error instanceof Error ? error.message : String(error);
    return { files, report: null, problem };
  }
}

export function useCheck(files: Files): Checked {
  const [result, setResult] = useState(last);
  useEffect(() => {
    if (last?.files === files) return;
    let isOutdated = false;
    const run = async () => {
      await running;
      if (isOutdated) return;
      const next = check(files);
      running = next;
      last = await next;
      if (!isOutdated) setResult(last);
    };
    const timer = setTimeout(() => void run(), last ? CHECK_DELAY : 0);
    return () => {
      isOutdated = true;
      clearTimeout(timer);
    };
  }, [files]);
  return {
    report: result?.report ?? null,
    problem: result?.problem ?? null,
    isRunning: result?.files !== files,
  };
}

/** Returns the number of exemplars with the expected result. */
export const passedCount = ({ exemplars }: Report) =>
  exemplars.filter(({ expected, actual }) => expected === actual).length;

const VERDICTS: Record<Verdict, string> = {
  match: 'matches',
  innocent: 'matches, and may be innocent',
  'no-match': 'does not match',
};

/** Describes the verdict of the rule on an exemplar, and the expected verdict. */
export function describeResult({ expected, actual }: ExemplarResult): string {
  if (expected === actual) return `${VERDICTS[actual]}, as expected`;
  return `${VERDICTS[actual]}; expected: ${VERDICTS[expected]}`;
}
