// Where a Chromium is, if there is one: Playwright's own cannot be had off the package registries.
import { existsSync } from 'node:fs';

const CANDIDATES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'];

export const chromium = () => [process.env.CHROMIUM, ...CANDIDATES].find((candidate) => candidate && existsSync(candidate));
