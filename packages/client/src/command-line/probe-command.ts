import { type AdapterManifest, ProductError } from '@lorasmith/contracts';
import { DEFAULT_TOLERANCE, type ProbeResult, type ProbeVerdict, probeServer } from '../probe-server.js';
import { quantizationText } from '../report-text.js';
import { type Command, print, textTable } from './command.js';

/** The number of characters of a prompt that are shown, from its end. */
const SHOWN_CHARACTERS = 32;

export const PROBE_COMMAND: Command = {
  name: 'probe',
  positionals: ['ID', 'SERVER'],
  summary: 'Check that a server (vLLM, llama.cpp, …) answers as the adapter does',
  options: {
    model: {
      type: 'string',
      value: 'NAME',
      help: 'its name on the server [the only model, or the one with its id or name]',
    },
    tolerance: {
      type: 'string',
      value: 'N',
      help: `how far log-probabilities may be off, as a root mean square [${DEFAULT_TOLERANCE}]`,
    },
  },
  help: [
    'SERVER is its OpenAI-compatible address, for example http://127.0.0.1:8000/v1.',
    'OPENAI_API_KEY, if set, is sent to the server.',
    'Exits with 0 if the server answers as the adapter does, with 1 otherwise.',
  ],
  async run(context) {
    const { client, values, positionals, signal, serverKey } = context;
    const [id, url] = positionals as [string, string];
    const manifest = await client.manifest(id, context);
    const tolerance = toleranceOf(values.tolerance as string | undefined);
    const model = values.model as string | undefined;
    const result = await probeServer(manifest, { url, model, tolerance, apiKey: serverKey, signal });
    print(context, result, [resultText(result), ...aboutBase(manifest)].join('\n'));
    return result.verdict === 'adapter' ? 0 : 1;
  },
};

function toleranceOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const tolerance = Number(text);
  if (text.trim() !== '' && Number.isFinite(tolerance) && tolerance > 0) return tolerance;
  throw new ProductError('invalid_request', `--tolerance must be a number above 0, not "${text}".`, {
    param: 'tolerance',
  });
}

const VERDICTS: Record<ProbeVerdict, string> = {
  adapter: 'match: the server answers as the adapter does',
  base: 'no match: the server answers as the base model does, without the adapter',
  neither: 'no match: the server answers neither as the adapter nor as its base model does',
  undecided:
    'undecided: on the probe, adapter and base model are too similar to distinguish them, or the server ends every text',
};

/** The sentence about a server whose base model is not quantized as it was in training; none for others. */
function aboutBase({ base_model: { name, quantization } }: AdapterManifest): string[] {
  if (quantization === null) return [];
  return [
    `The adapter was trained on ${name} in 4 bits (${quantizationText(quantization)}). A server with other weights, such as the original in bfloat16, differs by the rounding of these, too.`,
  ];
}

function resultText({ model, verdict, adapter_distance, base_distance, cases }: ProbeResult): string {
  const quoted = (text: string) => JSON.stringify(text);
  const rows = cases.map(({ prompt, answered, adapter, base }) => [
    quoted(prompt.slice(-SHOWN_CHARACTERS)),
    quoted(answered),
    quoted(adapter),
    quoted(base),
  ]);
  const compared =
    adapter_distance === null || base_distance === null
      ? 'It returns no log-probabilities, so words were compared.'
      : `Its log-probabilities differ by ${adapter_distance.toFixed(3)} from the adapter's and by ${base_distance.toFixed(3)} from the base's.`;
  return [
    textTable(['PROMPT ENDS WITH', 'ANSWERED', 'ADAPTER', 'BASE'], rows),
    '',
    `${model}: ${compared}`,
    VERDICTS[verdict],
  ].join('\n');
}
