// The commands of a page of documentation: reads them from the page, and runs them in one shell
// session.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';

/** A block of commands of a page. */
export interface Step {
  /** Heading of the section. */
  section: string;
  /** Line of the page at which the commands begin, from 1. */
  line: number;
  commands: string;
  /** Lines that the output contains, from the block `text` after the commands. */
  expected: string[];
}

/** Reads the blocks `sh` of a page, each with the block `text` that follows it. */
export function readSteps(page: string): Step[] {
  const steps: Step[] = [];
  let section = '';
  let block: { language: string; line: number; lines: string[] } | null = null;
  for (const [index, line] of page.split('\n').entries()) {
    if (block && line !== '```') block.lines.push(line);
    else if (block) {
      const { language, lines } = block;
      if (language === 'sh')
        steps.push({ section, line: block.line, commands: lines.join('\n'), expected: [] });
      if (language === 'text') steps.at(-1)!.expected.push(...lines);
      block = null;
    } else if (line.startsWith('## ')) section = line.slice(3);
    else if (line.startsWith('```'))
      block = { language: line.slice(3), line: index + 2, lines: [] };
  }
  return steps;
}

const normalise = (line: string) => line.trim().replace(/\s+/g, ' ');

/**
 * Fails if the output lacks an expected line. In an expected line, `…` is any text. The amount of
 * white space does not count.
 */
export function expectLines(output: string, expected: string[]) {
  const lines = output.split('\n').map(normalise);
  for (const line of expected.map(normalise)) {
    const escaped = line.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    const pattern = new RegExp(`^${escaped.join('.*')}$`);
    expect(
      lines.some((candidate) => pattern.test(candidate)),
      `"${line}" in:\n${output}`,
    ).toBe(true);
  }
}

/**
 * A session of bash: variables and the working directory stay from one run to the next. An error of
 * any command ends the run.
 */
export class Shell {
  readonly #directory: string;
  readonly #env: Record<string, string>;
  /** The outputs of all runs. */
  transcript = '';

  /** `directory` is the first working directory, and the home directory. */
  constructor(directory: string, env: Record<string, string>) {
    this.#directory = directory;
    this.#env = { HOME: directory, USER: 'ana', LC_ALL: 'C.UTF-8', ...env };
  }

  /** Runs commands. Returns their exit code and both of their outputs. */
  async run(commands: string): Promise<{ code: number; output: string }> {
    const state = path.join(this.#directory, '.session');
    if (!existsSync(state)) writeFileSync(state, `cd '${this.#directory}'\n`);
    const save = `{ export -p; printf 'cd %q\\n' "$PWD"; } > '${state}'`;
    const script = `set -eo pipefail\nsource '${state}'\n${commands}\n${save}`;
    const result = await new Promise<{ code: number; output: string }>((done) => {
      const child = execFile(
        'bash',
        ['-c', `exec 2>&1\n${script}`],
        { env: this.#env, maxBuffer: 1 << 26 },
        (error, stdout) => done({ code: error ? Number(error.code) : 0, output: stdout }),
      );
      // A command that reads standard input gets an empty input, and does not wait.
      child.stdin!.end();
    });
    this.transcript += result.output;
    return result;
  }

  /** Sets a variable of the session. */
  async set(name: string, value: string) {
    const { code, output } = await this.run(`export ${name}='${value}'`);
    expect([code, output]).toEqual([0, '']);
  }
}

const slug = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

/** Returns the links of a page of `directory` to a file or a heading that does not exist. */
export function brokenLinks(directory: string, name: string): string[] {
  const page = readFileSync(path.join(directory, name), 'utf8');
  const links = [...page.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!);
  return links.filter((link) => {
    if (/^https?:/.test(link)) return false;
    const [target, anchor] = link.split('#');
    const file = path.join(directory, target || name);
    if (!existsSync(file)) return true;
    if (anchor === undefined) return false;
    const headings = readFileSync(file, 'utf8').matchAll(/^#+ (.+)$/gm);
    return ![...headings].some(([, heading]) => slug(heading!) === anchor);
  });
}
