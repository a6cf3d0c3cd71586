import { bytesText, countText, durationText, quantizationText } from '@lorasmith/client/core';
import {
  type AdapterChecks,
  type AdapterManifest,
  type Evaluation,
  jobOrigin,
  type PublishedCheckpointOrigin,
  type SamplePrompt,
  type TrainedOrigin,
  type TrainingResult,
} from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { CodeBlock } from '../../components/copy-button.js';
import { Facts } from '../../components/data-table.js';
import { ConfirmDialog } from '../../components/dialog.js';
import { Loaded } from '../../components/error-notice.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { hasRewards } from '../../history/job-history.js';
import { Link, navigate } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { SERVICE_URL, session, useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';
import { useStore } from '../../store.js';
import { DatasetLink } from '../datasets/dataset-view.js';
import { OwnDetails } from '../own-details.js';
import { adapterCommands } from './adapter-commands.js';
import { AdapterNames } from './adapter-names.js';
import { OriginText } from './adapters-view.js';
import { Deliveries } from './deliveries.js';
import { DownloadButton } from './download-button.js';

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
          <Link to="/comparisons" query={{ model: id }} class="button">
            Compare it
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
        {(value) => {
          const trained = jobOrigin(value.origin);
          return (
            <>
              <About manifest={value} />
              {record.value && <AdapterNames adapter={record.value} />}
              <Downloads manifest={value} name={record.value?.name ?? null} />
              {trained && <TrainingFacts origin={trained} />}
              <Deliveries adapter={value.id} />
              <Commands manifest={value} />
              <details class="card">
                <summary>Manifest</summary>
                <CodeBlock text={JSON.stringify(value, undefined, 2)} what="the manifest" />
              </details>
            </>
          );
        }}
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

type Trained = TrainedOrigin | PublishedCheckpointOrigin;

/** The results of an adapter's training: figures, checks before it was published, and samples before and after. */
function TrainingFacts({ origin }: { origin: Trained }) {
  const { result, checks, dataset, settings } = origin;
  const prompts = settings.samples?.prompts ?? [];
  return (
    <>
      <section class="card" aria-labelledby="training">
        <h2 id="training">Training</h2>
        <Facts
          entries={[
            [
              'Dataset',
              <span key="dataset">
                {countText(dataset.rows)} rows of <DatasetLink id={dataset.id} />
              </span>,
            ],
            ['Steps', `${countText(result.steps)}${result.stopped_early ? ', stopped early' : ''}`],
            ['The adapter is of step', countText(result.adapter_step)],
            ['Loss', hasRewards(settings) ? null : `${result.first_loss.toFixed(4)} → ${result.last_loss.toFixed(4)}`],
            ['Evaluation before', evaluationText(result.evaluation_before)],
            ['Evaluation after', evaluationText(result.evaluation_after)],
            ['Trained tokens', `${countText(result.trained_tokens)} of ${countText(result.tokens)} read`],
            ['Time', durationText(result.seconds)],
          ]}
        />
      </section>
      <Checks checks={checks} />
      <Samples result={result} prompts={prompts} />
    </>
  );
}

function Checks({ checks }: { checks: AdapterChecks }) {
  const rows: readonly (readonly [what: string, difference: number, bound: number])[] = [
    ['The files, as read back, give the trained adapter', checks.read_back_difference, checks.read_back_bound],
    [
      `The merged model (${checks.merged_dtype}) gives the base with the adapter`,
      checks.merged_difference,
      checks.merged_bound,
    ],
  ];
  return (
    <section class="card" aria-labelledby="checks">
      <h2 id="checks">Checks before it was published</h2>
      <ul class="checks">
        <li>
          The adapter changes the base model: {checks.adapter_difference.toPrecision(3)} over{' '}
          {countText(checks.logprobs)} log-probabilities.
        </li>
        {rows.map(([what, difference, bound]) => (
          <li key={what}>
            {what}: differs by {difference.toPrecision(3)}; {bound.toPrecision(3)} is allowed.{' '}
            {difference <= bound ? 'Passed.' : 'Not passed.'}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Samples({ result, prompts }: { result: TrainingResult; prompts: readonly SamplePrompt[] }) {
  const before = result.samples[0];
  const after = result.samples.at(-1);
  if (before === undefined || after === undefined) return null;
  return (
    <section class="card" aria-labelledby="samples">
      <h2 id="samples">Samples</h2>
      <table class="data-table">
        <caption class="visually-hidden">Answers to each prompt before and after training</caption>
        <thead>
          <tr>
            <th scope="col">Prompt</th>
            <th scope="col">{before.step === 0 ? 'Before training' : `Step ${before.step}`}</th>
            <th scope="col">After step {after.step}</th>
          </tr>
        </thead>
        <tbody>
          {after.samples.map(({ prompt, text }) => (
            <tr key={prompt}>
              <th scope="row" data-label="Prompt" class="sample-text">
                {promptText(prompts[prompt]) ?? `prompt ${prompt + 1}`}
              </th>
              <td data-label="Before" class="sample-text">
                {before.samples.find((one) => one.prompt === prompt)?.text}
              </td>
              <td data-label="After" class="sample-text">
                {text}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** A prompt, or the last turn of a conversation. */
function promptText(prompt: SamplePrompt | undefined): string | undefined {
  return typeof prompt === 'string' ? prompt : prompt?.at(-1)?.content;
}

function evaluationText(evaluation: Evaluation | null): string | null {
  if (evaluation === null) return null;
  const { loss, perplexity, accuracy, group } = evaluation;
  if (group !== undefined)
    return `reward ${group.reward.toFixed(4)}, ${(100 * accuracy).toFixed(1)} % ended by themselves`;
  return [
    `loss ${loss.toFixed(4)}`,
    perplexity === null ? '' : `perplexity ${perplexity.toPrecision(4)}`,
    `${(100 * accuracy).toFixed(1)} % right`,
  ]
    .filter(Boolean)
    .join(', ');
}
