import { ScrollRegion } from './data-table.js';
import { notify } from './notices.js';

export interface CopyButtonProps {
  text: string;
  /** The thing that is copied, such as `the command`. */
  what: string;
}

function CopyButton({ text, what }: CopyButtonProps) {
  return (
    <button
      type="button"
      class="copy"
      aria-label={`Copy ${what}`}
      onClick={() => {
        void copyText(text).then((copied) =>
          notify(copied ? `Copied ${what}.` : 'The browser did not allow to copy. Select the text and copy it.'),
        );
      }}
    >
      Copy
    </button>
  );
}

/** Browsers offer the clipboard only in secure contexts, and a service in a network of one's own may not be one. */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'visually-hidden';
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    return copied;
  }
}

/** Text in a box, such as a command or JSON, with a button that copies it. */
export function CodeBlock({ text, what }: CopyButtonProps) {
  return (
    <div class="code-block">
      <ScrollRegion label={what}>
        <pre>
          <code>{text}</code>
        </pre>
      </ScrollRegion>
      <CopyButton text={text} what={what} />
    </div>
  );
}

const SHOWN = 6;

/** The end of a long id, with a button that copies all of it. */
export function ShortId({ id, what }: { id: string; what: string }) {
  const kind = id.slice(0, id.indexOf('_') + 1);
  return (
    <span class="short-id">
      <code title={id}>
        {kind}…{id.slice(-SHOWN)}
      </code>
      <CopyButton text={id} what={what} />
    </span>
  );
}
