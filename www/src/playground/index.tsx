// Scores a request while it is edited, and shows the evidence, the conditions and the action.
import './playground.css';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { Problem } from '../components/async-states.tsx';
import { Hash } from '../components/ui.tsx';
import { core, type Passage } from '../core/core.ts';
import { navigate } from '../router.ts';
import { BodyPanel } from './body-panel.tsx';
import { ConditionsPanel, MAX_EXPLAINED } from './conditions-panel.tsx';
import { FileButton } from './file-button.tsx';
import { InputError } from './input-error.ts';
import { type ParsedInput, parseInput, type ParseOptions } from './parse-input.ts';
import { ReplayPanel } from './replay-panel.tsx';
import { DETECT_ALL, RequestPanel } from './request-panel.tsx';
import { ResultPanel, SharedPanel } from './result-panel.tsx';
import { decode, resultOf } from './share-link.ts';
import { explainer, messageOf, type Rules, useDebouncedQuery, useRules } from './use-scoring.ts';

interface Input {
  text: string;
  options: ParseOptions;
}

/** The input, which is shown again when the user returns to the view. */
let lastInput: Input = { text: '', options: DETECT_ALL };

/** Milliseconds between the last change of the input and the scoring. */
const SCORE_DELAY = 150;

const NO_PASSAGES: readonly Passage[] = [];

interface Parsed {
  parsed: ParsedInput | null;
  error: InputError | null;
}

function useParsed({ text, options }: Input): Parsed {
  return useMemo(() => {
    if (!text.trim()) return { parsed: null, error: null };
    try {
      return { parsed: parseInput(text, options), error: null };
    } catch (error) {
      if (error instanceof InputError) return { parsed: null, error };
      const message = `The input cannot be parsed: ${messageOf(error)}.`;
      const remedy = 'Paste it again, or in another format.';
      return { parsed: null, error: new InputError(message, remedy) };
    }
  }, [text, options]);
}

/**
 * Returns the fields whose evidence is in the body. Other evidence is in headers or is a number.
 */
function useTextFields(): ReadonlySet<string> {
  const [names, setNames] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => {
    core()
      .fields()
      .then((fields) => {
        const textFields = fields.filter(({ kind }) => kind === 'text');
        setNames(new Set(textFields.map(({ name }) => name)));
      })
      // Without the fields, nothing is marked. The error is ignored here, because the result panel
      // shows why the core failed.
      .catch(() => undefined);
  }, []);
  return names;
}

export function Playground({ params }: { params: URLSearchParams }) {
  const [input, setInput] = useState(lastInput);
  const [picked, setPicked] = useState<string | null>(null);
  const [hovered, setHovered] = useState<string | null>(null);
  const { rules, shipped, error: rulesError, load, useShipped } = useRules();
  const { parsed, error } = useParsed(input);
  const textFields = useTextFields();
  // Loads the second core now, so that explanations also work if the browser is offline later.
  useEffect(() => void explainer(), []);
  const shared = params.get('result');

  const query = useMemo(() => (parsed && rules ? { parsed, rules } : null), [parsed, rules]);
  const scored = useDebouncedQuery(
    query,
    ({ parsed, rules }) => core().score(rules.text, parsed.line),
    SCORE_DELAY,
  );
  const answer = scored && 'answer' in scored ? scored.answer : null;
  const decision = answer?.decision;
  const tooMany = (decision?.entries ?? 0) > MAX_EXPLAINED;
  // Explains only a query that was scored, because the number of its requests is known.
  const explainQuery = scored && decision && !tooMany ? scored.query : null;
  const explained = useDebouncedQuery(
    explainQuery,
    ({ parsed, rules }) => explainer().explain(rules.text, parsed.line),
    0,
  );
  const divided = useDebouncedQuery(
    scored && decision ? scored.query : null,
    ({ parsed, rules }) => core().passages(rules.text, parsed.line),
    0,
  );
  // Ignores passages of an earlier request, because their byte ranges do not match the current
  // text.
  const passages =
    divided && 'answer' in divided && divided.query === scored?.query
      ? divided.answer.passages
      : NO_PASSAGES;
  const result = useMemo(() => answer && resultOf(answer, picked), [answer, picked]);
  const hits = useMemo(() => decision?.hits ?? [], [answer]);

  const change = (next: Partial<Input>) => {
    lastInput = { ...input, ...next };
    setInput(lastInput);
    setHovered(null);
    // Replaces a shared result with the result of the input.
    if (shared !== null) navigate('playground');
  };
  const setText = (text: string) => change(text ? { text } : { text, options: DETECT_ALL });
  const setExample = (text: string) => {
    setPicked(null);
    change({ text, options: DETECT_ALL });
  };
  return (
    <>
      <div class="view-head">
        <h1>Playground</h1>
        <RulesBar rules={rules} failed={rulesError !== null} onFile={load} onShipped={useShipped} />
      </div>
      {rulesError && <Problem error={rulesError} />}
      <div class="grid playground">
        <div class="half stack">
          <RequestPanel
            {...input}
            parsed={parsed}
            error={error}
            onText={setText}
            onExample={setExample}
            onOptions={(options) => change({ options })}
          />
          {shared === null && scored && decision && (
            <BodyPanel
              text={scored.query.parsed.body}
              hits={hits}
              passages={passages}
              textFields={textFields}
              highlighted={hovered ?? picked}
              onPick={setPicked}
            />
          )}
        </div>
        <div class="half stack">
          {shared !== null ? (
            <SharedPanel key={shared} result={decode(shared)} shipped={shipped} />
          ) : (
            <>
              <ResultPanel
                scored={scored}
                result={result}
                rules={rules}
                isIdle={!parsed}
                onHover={setHovered}
                onPick={setPicked}
                onExample={setExample}
              />
              {decision && (
                <ConditionsPanel
                  explained={explained}
                  tooMany={tooMany}
                  rules={rules}
                  textFields={textFields}
                  picked={picked}
                  onPick={setPicked}
                />
              )}
            </>
          )}
        </div>
        <ReplayPanel rules={rules} />
      </div>
    </>
  );
}

interface RulesBarProps {
  rules: Rules | null;
  failed: boolean;
  onFile: (file: File) => void;
  onShipped: () => void;
}

function RulesBar({ rules, failed, onFile, onShipped }: RulesBarProps) {
  const name = rules?.file ? `Rules from ${rules.file.slice(0, 80)}` : 'Shipped rules';
  return (
    <div class="end">
      <span class="note rules-name">
        {name} <Hash value={rules?.digest ?? null} />
      </span>
      {(rules?.file || failed) && (
        <button type="button" class="quiet" onClick={onShipped}>
          Use the shipped rules
        </button>
      )}
      <FileButton accept=".json,application/json" onFile={onFile}>
        Load a bundle
      </FileButton>
    </div>
  );
}
