// The result of the check of all files: findings, and the results of exemplars.
import { ApiError } from '../api.ts';
import { Problem } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { Panel } from '../components/ui.tsx';
import type { ExemplarResult, Finding, Report } from '../core/core.ts';
import { count } from '../format.ts';
import type { CursorTarget } from './edit-view.tsx';
import { type Checked, describeResult, passedCount } from './use-check.ts';

interface Props {
  checked: Checked;
  /** The open file. */
  path: string;
  onJump(target: CursorTarget): void;
}

const MAX_FINDINGS = 100;

export function CheckPanel({ checked: { report, problem, isRunning }, path, onJump }: Props) {
  const findings = report?.findings ?? [];
  const more = findings.length - MAX_FINDINGS;
  const exemplars = report?.exemplars.filter((exemplar) => exemplar.path === path) ?? [];
  const note = isRunning ? 'Checking…' : summary(findings.length);
  return (
    <Panel title="Check" note={<span role="status">{note}</span>}>
      {problem && <CheckFailure problem={problem} />}
      {report && <p>{exemplarSummary(report)}</p>}
      {findings.length > 0 && (
        <FindingTable findings={findings.slice(0, MAX_FINDINGS)} onJump={onJump} />
      )}
      {more > 0 && <p class="note">And {count(more)} more. Fix these first.</p>}
      {exemplars.length > 0 && <Exemplars exemplars={exemplars} onJump={onJump} />}
    </Panel>
  );
}

function CheckFailure({ problem }: { problem: string }) {
  const message = `the check failed: ${problem}`;
  const remedy = 'change a file to try again, or reload the page';
  return <Problem error={new ApiError(0, 'check', message, remedy)} />;
}

function summary(findings: number): string {
  if (!findings) return 'No problems';
  return findings === 1 ? '1 problem' : `${count(findings)} problems`;
}

function exemplarSummary(report: Report): string {
  const { length } = report.exemplars;
  if (!length) return 'Exemplars run when all files can be parsed.';
  const passed = `${count(passedCount(report))} of ${count(length)} exemplars`;
  return (
    `${passed} have the expected result, for ${count(report.signatures)} signatures and all ` +
    'correlations.'
  );
}

interface FindingTableProps {
  findings: readonly Finding[];
  onJump: Props['onJump'];
}

function FindingTable({ findings, onJump }: FindingTableProps) {
  return (
    <Table label="Problems" class="rule-findings" columns={['Location', 'Problem and remedy']}>
      {findings.map(({ path, line, column, problem, remedy }, index) => (
        <tr key={index}>
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

interface ExemplarsProps {
  exemplars: readonly ExemplarResult[];
  onJump: Props['onJump'];
}

function Exemplars({ exemplars, onJump }: ExemplarsProps) {
  const failed = exemplars.filter(({ expected, actual }) => expected !== actual).length;
  return (
    <details class="rule-exemplar-results" open={failed > 0}>
      <summary>
        {exemplars.length - failed} of {exemplars.length} exemplars in this file have the expected
        result
      </summary>
      <ul>
        {exemplars.map((exemplar) => (
          <ExemplarRow
            key={`${exemplar.line}:${exemplar.name}`}
            exemplar={exemplar}
            onJump={onJump}
          />
        ))}
      </ul>
    </details>
  );
}

interface ExemplarRowProps {
  exemplar: ExemplarResult;
  onJump: Props['onJump'];
}

function ExemplarRow({ exemplar, onJump }: ExemplarRowProps) {
  const { path, line, name, expected, actual } = exemplar;
  const result = describeResult(exemplar);
  return (
    <li>
      <button type="button" class="link" onClick={() => onJump({ path, line, column: 1 })}>
        {name || `line ${line}`}
      </button>
      : {expected === actual ? result : <strong class="rule-problems">{result}</strong>}
    </li>
  );
}
