// Finds an installed Chromium: Playwright's own is not on the package registries.
import { existsSync } from 'node:fs';

const CANDIDATES = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];

/** Returns the path of Chromium: CHROMIUM, or a usual path. Undefined if none exists. */
export const chromium = () =>
  [process.env.CHROMIUM, ...CANDIDATES].find((file) => file && existsSync(file));
