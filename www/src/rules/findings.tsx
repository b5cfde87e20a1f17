// What the check says of all files: what to mend, and how exemplars come out.
import { ApiError } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { Problem } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import type { Exemplar, Finding } from '../core/core.ts';
import { count } from '../format.ts';
import { type Checked, fine, verdict } from './check.ts';
import type { Spot } from './edit.tsx';

interface Props {
  checked: Checked;
  path: string;
  onJump(spot: Spot): void;
}

const SHOWN = 100;

export function Findings({ checked: { report, problem, running }, path, onJump }: Props) {
  const findings = report?.findings ?? [];
  const own = report?.exemplars.filter((exemplar) => exemplar.path === path) ?? [];
  return (
    <Panel title="Check" note={<span role="status">{running ? 'Checking…' : summary(findings.length)}</span>}>
      {problem && <Problem error={new ApiError(0, 'check', `the check failed: ${problem}`, 'change something to try again, or reload the page')} />}
      {report && <p>{exemplarsIn(report)}</p>}
      {findings.length > 0 && <FindingTable findings={findings.slice(0, SHOWN)} onJump={onJump} />}
      {findings.length > SHOWN && <p class="note">And {count(findings.length - SHOWN)} more. Mend these first.</p>}
      {own.length > 0 && <Exemplars exemplars={own} onJump={onJump} />}
    </Panel>
  );
}

const summary = (findings: number) => (findings ? `${count(findings)} to mend` : 'Nothing to mend');

function exemplarsIn(report: NonNullable<Checked['report']>): string {
  const { length } = report.exemplars;
  if (!length) return 'Exemplars are tried as soon as every file can be read.';
  return `${count(fine(report))} of ${count(length)} exemplars come out as expected, of ${count(report.signatures)} signatures and of the correlations.`;
}

function FindingTable({ findings, onJump }: { findings: readonly Finding[]; onJump: Props['onJump'] }) {
  return (
    <Table label="Findings" class="rule-findings" columns={['Place', 'What is wrong, and what to do']}>
      {findings.map(({ path, line, column, problem, remedy }, place) => (
        <tr key={place}>
          <td>
            <button type="button" class="link" onClick={() => onJump({ path, line, column })}>
              {path}, line {line}
            </button>
          </td>
          <td>
            {problem}
            <div class="note">{remedy}</div>
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Exemplars({ exemplars, onJump }: { exemplars: readonly Exemplar[]; onJump: Props['onJump'] }) {
  const wrong = exemplars.filter(({ expected, matches }) => expected !== matches);
  return (
    <details class="rule-exemplars" open={wrong.length > 0}>
      <summary>
        In this file, {exemplars.length - wrong.length} of {exemplars.length} come out as expected
      </summary>
      <ul>
        {exemplars.map((exemplar) => (
          <li key={`${exemplar.line}:${exemplar.name}`}>
            <button type="button" class="link" onClick={() => onJump({ path: exemplar.path, line: exemplar.line, column: 1 })}>
              {exemplar.name || `line ${exemplar.line}`}
            </button>
            : {exemplar.expected === exemplar.matches ? verdict(exemplar) : <strong class="rule-wrong">{verdict(exemplar)}</strong>}
          </li>
        ))}
      </ul>
    </details>
  );
}
