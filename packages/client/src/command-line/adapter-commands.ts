import { stat } from 'node:fs/promises';
import { ADAPTER_SORTS, type AdapterManifest, type AdapterQuery, ProductError } from '@lorasmith/contracts';
import type { DownloadAdapterOptions } from '../node-client.js';
import { bytesText, countText, durationText } from '../text-output.js';
import { type Command, createTransferProgress, moreText, print, textTable } from './command.js';
import {
  detailsText,
  editCommand,
  FILTER_OPTIONS,
  filterQueryOf,
  given,
  orderOptions,
  totalText,
} from './details-commands.js';

export const ADAPTER_COMMANDS: Command[] = [
  {
    name: 'adapters list',
    positionals: [],
    summary: 'Published adapters, newest first unless sorted',
    options: {
      find: { type: 'string', value: 'TEXT', help: 'only those with this text in name, id, model or tags' },
      model: { type: 'string', value: 'NAME', help: 'only those of this base model' },
      ...FILTER_OPTIONS,
      ...orderOptions(ADAPTER_SORTS.join(', ')),
    },
    async run(context) {
      const { find, model, sort, order } = context.values as Record<string, string | undefined>;
      const own = given({ q: find, base_model: model, sort, order });
      const query = { ...filterQueryOf(context.values), ...own } as AdapterQuery;
      const page = await context.client.listAdapters(query, context);
      const rows = page.data.map(({ id, name, base_model, bytes, created_at }) => [
        id,
        name ?? '-',
        base_model,
        bytesText(bytes),
        created_at,
      ]);
      const table = textTable(['ID', 'NAME', 'MODEL', 'SIZE', 'CREATED'], rows);
      return print(context, page, table + totalText(page) + moreText(page));
    },
  },
  {
    name: 'adapters show',
    positionals: ['ID'],
    summary: 'How an adapter was made; --json prints its complete manifest',
    async run(context) {
      const id = context.positionals[0]!;
      const manifest = await context.client.manifest(id, context);
      if (context.json) return print(context, manifest, '');
      const record = await context.client.getAdapter(manifest.id, context);
      return print(
        context,
        manifest,
        manifestText({ ...manifest, name: record.name }, detailsText({ ...record, name: null })),
      );
    },
  },
  editCommand('adapters', (client, id, details, call) => client.changeAdapter(id, details, call)),
  {
    name: 'adapters download',
    positionals: ['ID'],
    summary: 'Download the PEFT folder, or with --merged the merged model; --format gguf for llama.cpp and Ollama',
    options: {
      merged: { type: 'boolean', help: 'the complete model with the adapter merged in, as transformers loads it' },
      'per-expert': {
        type: 'boolean',
        help: 'an adapter of experts with matrices of each expert, as vLLM and llama.cpp read it',
      },
      format: {
        type: 'string',
        value: 'gguf',
        help: 'a GGUF file, with a Modelfile for Ollama; the adapter, or with --merged the model',
      },
      type: {
        type: 'string',
        value: 'f32|f16|bf16|q8_0',
        help: 'of the numbers in a GGUF file [f32; with --merged f16]',
      },
      'base-model': {
        type: 'string',
        value: 'ORG/NAME',
        help: 'the repository of the hub that the config and the card name as the base model',
      },
      output: {
        type: 'string',
        short: 'o',
        value: 'PATH',
        help:
          'destination [./ID, ./ID-merged, ./ID-gguf, …]; with --format gguf, a PATH that ends in .gguf receives that ' +
          'file alone',
      },
      tar: { type: 'boolean', help: 'save a tar file instead of unpacking it' },
      force: { type: 'boolean', help: 'replace an existing destination' },
    },
    async run(context) {
      const { client, values, signal, output } = context;
      const id = context.positionals[0]!;
      const { format, type } = formatOf(values);
      const forms = { merged: values.merged, 'per-expert': values['per-expert'], gguf: format === 'gguf' };
      const parts = [id, ...Object.keys(forms).filter((form) => forms[form as keyof typeof forms])];
      const target = (values.output as string | undefined) ?? `${parts.join('-')}${values.tar ? '.tar' : ''}`;
      const isFile = values.tar === true || (format === 'gguf' && target.endsWith('.gguf'));
      const progress = createTransferProgress(output);
      try {
        await client.downloadAdapter(id, isFile ? { file: target } : { folder: target }, {
          weights: values.merged ? 'merged' : 'adapter',
          layout: values['per-expert'] ? 'per-expert' : 'peft',
          ...{ format, type, base_model: values['base-model'] as string | undefined },
          overwrite: values.force === true,
          signal,
          onProgress: context.json ? undefined : progress.handle,
        });
      } finally {
        progress.end();
      }
      return print(context, { id, path: target }, `${id} is in ${target}`);
    },
  },
  {
    name: 'adapters import',
    positionals: ['PATH'],
    summary: 'Import a PEFT adapter: its folder, or a plain tar of it',
    options: {
      'base-model': { type: 'string', value: 'NAME', help: 'its base model [the one that its config names]' },
      name: { type: 'string', help: 'a name for it' },
    },
    async run(context) {
      const { client, values, signal } = context;
      const source = context.positionals[0]!;
      const isFolder = (await stat(source).catch(() => null))?.isDirectory() === true;
      const base_model = values['base-model'] as string | undefined;
      const name = values.name as string | undefined;
      const adapter = await client.importAdapter(isFolder ? { folder: source } : { file: source }, {
        ...(base_model === undefined ? {} : { base_model }),
        ...(name === undefined ? {} : { name }),
        signal,
      });
      return print(context, adapter, `${adapter.id} is imported, for ${adapter.base_model}`);
    },
  },
  {
    name: 'adapters delete',
    positionals: ['ID'],
    summary: 'Delete an adapter',
    async run(context) {
      const id = context.positionals[0]!;
      await context.client.deleteAdapter(id, context);
      return print(context, { id, deleted: true }, `${id} is deleted`);
    },
  },
];

/** @throws ProductError `invalid_request` for flags that do not fit together; the api checks the type */
function formatOf({ format, type, tar }: Record<string, unknown>): Pick<DownloadAdapterOptions, 'format' | 'type'> {
  const refuse = (message: string, param: string) => new ProductError('invalid_request', message, { param });
  if (format !== undefined && format !== 'gguf' && format !== 'safetensors') {
    throw refuse(`--format ${JSON.stringify(format)} is unknown: safetensors or gguf.`, '--format');
  }
  if (format === 'gguf' && tar === true) throw refuse('--tar and --format gguf exclude each other.', '--tar');
  if (format !== 'gguf' && type !== undefined) throw refuse('--type is only for --format gguf.', '--type');
  return { format, type: type as DownloadAdapterOptions['type'] };
}

function manifestText({ id, name, base_model, lora, origin }: AdapterManifest, details: string[]): string {
  return [
    `${id}${name === null ? '' : `  ${name}`}`,
    ...details,
    `base model    ${base_model.name} (${base_model.weights_sha256.slice(0, 12)})${quantizationText(base_model)}`,
    `LoRA          r ${lora.r}, alpha ${lora.alpha}, ${countText(lora.modules.length)} layers`,
    ...trainingText(origin),
  ].join('\n');
}

function quantizationText({ quantization }: AdapterManifest['base_model']): string {
  return quantization === null
    ? ''
    : `, ${quantization.type}${quantization.on_load ? ', quantized when it is loaded' : ''}`;
}

function trainingText(origin: AdapterManifest['origin']): string[] {
  if (origin.kind === 'imported') return ['imported, not trained here'];
  if (origin.kind === 'session') {
    return [
      `training      call by call by its client, ${countText(origin.steps)} steps, saved as ${origin.checkpoint}`,
    ];
  }
  const { dataset, result } = origin;
  return [
    `dataset       ${dataset.id}, ${countText(dataset.rows)} rows`,
    `training      ${countText(result.steps)} steps, ${countText(result.tokens)} tokens, ${durationText(result.seconds)}, peak memory of the host ${bytesText(result.peak_memory_bytes)}`,
    `loss          ${result.first_loss.toFixed(4)} → ${result.last_loss.toFixed(4)}`,
  ];
}
