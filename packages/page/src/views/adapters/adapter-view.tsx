import { bytesText, quantizationText } from '@lorasmith/client/core';
import type { AdapterManifest } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { CodeBlock } from '../../components/copy-button.js';
import { ConfirmDialog } from '../../components/dialog.js';
import { Facts } from '../../components/facts.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/toasts.js';
import { ViewHead } from '../../components/view-head.js';
import { navigate } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { SERVICE_URL, useClient } from '../../service/service.js';
import { session } from '../../service/session.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';
import { useStore } from '../../store.js';
import { OwnDetails } from '../details/own-details.js';
import type { ViewProps } from '../view.js';
import { adapterCommands } from './adapter-commands.js';
import { DownloadButton } from './download-button.js';
import { OriginText } from './origin-text.js';
import { TrainingFacts } from './training-facts.js';

/** One adapter: what it is, how it was made, its downloads, and how to load it elsewhere. */
export function AdapterView({ params }: ViewProps) {
  const id = params.id!;
  const client = useClient();
  const manifest = usePolled((signal) => client.manifest(id, { signal }), [client, id], { everyMs: null });
  // Its name, tags and note may change; the manifest has the name with which it was published.
  const record = usePolled((signal) => client.getAdapter(id, { signal }), [client, id], { everyMs: null });
  const [isDeleting, setDeleting] = useState(false);
  const remove = useAction(async (signal) => {
    await client.deleteAdapter(id, { signal });
    notify('The adapter is deleted.');
    navigate('/adapters');
  });
  return (
    <>
      <ViewHead title={record.value?.name ?? id}>
        <Allowed to="change">
          <Link to="/chat" query={{ model: id }} class="button primary">
            Chat with it
          </Link>
          <button type="button" class="danger" onClick={() => setDeleting(true)}>
            Delete
          </button>
        </Allowed>
      </ViewHead>
      {record.value && (
        <OwnDetails
          what="adapter"
          list="/adapters"
          details={record.value}
          change={(details, call) => client.changeAdapter(id, details, call)}
          refresh={record.refresh}
        />
      )}
      <Loaded from={manifest} what="the adapter">
        {(value) => (
          <>
            <About manifest={value} />
            <Downloads manifest={value} name={record.value?.name ?? null} />
            {value.origin.kind !== 'imported' && <TrainingFacts origin={value.origin} />}
            <Commands manifest={value} />
            <details class="card">
              <summary>Manifest</summary>
              <CodeBlock text={JSON.stringify(value, undefined, 2)} what="the manifest" />
            </details>
          </>
        )}
      </Loaded>
      {isDeleting && (
        <ConfirmDialog
          title="Delete this adapter?"
          confirm="Delete the adapter"
          action={remove}
          onClose={() => setDeleting(false)}
        >
          <p>Its files and its merged model are removed. Checkpoints of its job, if there are any, stay.</p>
        </ConfirmDialog>
      )}
    </>
  );
}

function About({ manifest }: { manifest: AdapterManifest }) {
  const { lora, base_model: base, origin } = manifest;
  return (
    <section class="card" aria-labelledby="about">
      <h2 id="about">About</h2>
      <Facts
        entries={[
          ['Id', <code key="id">{manifest.id}</code>],
          ['Made', <OriginText key="origin" origin={origin} />],
          ['Created', <Moment key="created" at={manifest.created_at} />],
          ['Base model', `${base.name} (${base.family})`],
          ['Base in 4 bits', base.quantization && quantizationText(base.quantization)],
          ['Rank', lora.r],
          ['Alpha', lora.alpha],
          ['Adapted layers', `${lora.modules.length}: ${namesOf(lora.modules)}`],
          ['Ranks that differ', patternText(lora.rank_pattern)],
          ['Alphas that differ', patternText(lora.alpha_pattern)],
          ["Base's weights, sha256", <code key="sha256">{base.weights_sha256.slice(0, 16)}…</code>],
        ]}
      />
    </section>
  );
}

function Downloads({ manifest: { id, files }, name }: { manifest: AdapterManifest; name: string | null }) {
  const fileName = (suffix: string) => `${(name ?? id).replaceAll(/[^\w.-]+/g, '-').slice(0, 100)}${suffix}`;
  return (
    <section class="card" aria-labelledby="downloads">
      <h2 id="downloads">Downloads</h2>
      <div class="buttons">
        <DownloadButton adapter={id} query={{}} name={fileName('.tar')} label="Adapter (PEFT, tar)" />
        <DownloadButton
          adapter={id}
          query={{ format: 'safetensors' }}
          name={fileName('.safetensors')}
          label="Adapter's weights (safetensors)"
        />
        <DownloadButton
          adapter={id}
          query={{ weights: 'merged' }}
          name={fileName('-merged.tar')}
          label="Merged model (tar)"
        />
        <DownloadButton adapter={id} query={{ format: 'gguf' }} name={fileName('.gguf')} label="Adapter (GGUF)" />
        <DownloadButton
          adapter={id}
          query={{ weights: 'merged', format: 'gguf' }}
          name={fileName('-merged-f16.gguf')}
          label="Merged model (GGUF, f16)"
        />
        <DownloadButton
          adapter={id}
          query={{ weights: 'merged', format: 'gguf', type: 'q8_0' }}
          name={fileName('-merged-q8_0.gguf')}
          label="Merged model (GGUF, q8_0)"
        />
      </div>
      <p class="fine-print">
        A merged model and a GGUF file are computed when they are first asked for, which takes a moment.
      </p>
      <ul class="file-list">
        {files.map((file) => (
          <li key={file.name}>
            {file.name}, {bytesText(file.bytes)}, sha256 <code>{file.sha256}</code>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Commands({ manifest: { id, base_model, lora } }: { manifest: AdapterManifest }) {
  const { key } = useStore(session);
  const commands = adapterCommands({
    serviceUrl: SERVICE_URL,
    id,
    baseModel: base_model.name,
    rank: lora.r,
    needsKey: key !== null,
  });
  return (
    <section class="card" aria-labelledby="commands">
      <h2 id="commands">Use it</h2>
      {key !== null && (
        <p>
          The commands read the API key from the variable <code>LORASMITH_API_KEY</code>.
        </p>
      )}
      {commands.map(({ title, note, text }) => (
        <div key={title} class="command">
          <h3>{title}</h3>
          <p class="fine-print">{note}</p>
          <CodeBlock text={text} what={`the command for ${title}`} />
        </div>
      ))}
    </section>
  );
}

/** The last parts of the names of layers, each once. */
function namesOf(modules: readonly string[]): string {
  return [...new Set(modules.map((name) => name.slice(name.lastIndexOf('.') + 1)))].join(', ');
}

function patternText(pattern: Readonly<Record<string, number>>): string {
  return Object.entries(pattern)
    .map(([name, value]) => `${name}: ${value}`)
    .join(', ');
}
