// Finds an installed Chromium: Playwright's own is not on the package registries.
import { existsSync } from 'node:fs';

const CANDIDATES = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];

/** Flags for a headless run as root that asks no server on the internet for anything. */
export const CHROMIUM_FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Returns the path of Chromium: CHROMIUM, or a usual path. Undefined if none exists. */
export const chromium = () =>
  [process.env.CHROMIUM, ...CANDIDATES].find((file) => file && existsSync(file));
