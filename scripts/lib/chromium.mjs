// Finds an installed Chromium, because package registries do not have Playwright's own Chromium.
import { existsSync } from 'node:fs';

const CANDIDATES = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];

/** Flags for a headless run as root that contacts no server on the internet. */
export const CHROMIUM_FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * Returns the path of Chromium: the environment variable CHROMIUM, or a usual path. Returns
 * undefined if no such file exists.
 */
export const chromium = () =>
  [process.env.CHROMIUM, ...CANDIDATES].find((file) => file && existsSync(file));
