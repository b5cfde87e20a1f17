import { Copy } from '../components/ui.tsx';

/** A text to copy: an entry for the policy, or a command. */
export function Snippet({ label, text }: { label: string; text: string }) {
  return (
    <section class="snippet" aria-label={label}>
      <div class="row">
        <h3>{label}</h3>
        <Copy text={text} />
      </div>
      <pre tabIndex={0} role="region" aria-label={`${label}: text`}>
        {text}
      </pre>
    </section>
  );
}
