import {
  ADAPTER_FILES,
  type AdapterManifest,
  jobOrigin,
  type TrainedOrigin,
  trainedPrecision,
} from '@lorasmith/contracts';

/** The contents of a card: a manifest before or after it was written. */
export type CardContent = Pick<AdapterManifest, 'id' | 'name' | 'origin' | 'base_model' | 'lora'>;

/**
 * The model card of an adapter, as the Hugging Face Hub reads it: YAML at its top, then Markdown.
 *
 * Specification: https://huggingface.co/docs/hub/model-cards
 */
export function adapterCard(adapter: CardContent): string {
  const { base_model } = adapter;
  const task = base_model.family === 'classifier' ? {} : { pipeline_tag: 'text-generation' };
  const fields = { base_model: publicName(base_model), base_model_relation: 'adapter', library_name: 'peft', ...task };
  const loading =
    base_model.family === 'classifier'
      ? [`\`${ADAPTER_FILES.weights}\` has the matrices of each layer, in PEFT's names.`]
      : [
          'With PEFT and transformers, where this folder is `adapter`:',
          codeBlock(peftLines(adapter)),
          ...aboutQuantization(adapter),
          'With vLLM:',
          codeBlock([
            `vllm serve ${publicName(base_model)}${base_model.quantization?.on_load ? ' --quantization bitsandbytes' : ''} --enable-lora --max-lora-rank ${adapter.lora.r} --lora-modules adapter=./adapter`,
          ]),
        ];
  return cardOf(fields, [
    `# ${inlineText(adapter.name ?? adapter.id)}`,
    `A LoRA adapter for ${inlineText(publicName(base_model))}, ${howMade(adapter)} by Lorasmith.`,
    ...about(adapter),
    '## Loading',
    ...loading,
  ]);
}

/** The name under which others find the base model: its repository of the hub, where it is known. */
function publicName({ origin, name }: CardContent['base_model']): string {
  return origin?.repo ?? name;
}

/** Python that loads the adapter on the base model, in the form in which it was trained. */
function peftLines({ base_model, origin }: CardContent): string[] {
  const { quantization } = base_model;
  const onLoad = quantization?.on_load ? quantization : null;
  const names = ['AutoModelForCausalLM', 'AutoTokenizer', ...(onLoad === null ? [] : ['BitsAndBytesConfig'])];
  return [
    ...(onLoad === null ? [] : ['import torch']),
    'from peft import PeftModel',
    `from transformers import ${names.join(', ')}`,
    '',
    ...(onLoad === null ? [] : ['quantization = BitsAndBytesConfig(', ...quantizationLines(onLoad, origin), ')']),
    `base = AutoModelForCausalLM.from_pretrained(${JSON.stringify(publicName(base_model))}, dtype="auto"${onLoad === null ? '' : ', quantization_config=quantization'})`,
    'model = PeftModel.from_pretrained(base, "adapter")',
  ];
}

/** The four settings of bitsandbytes, whose defaults are others. */
function quantizationLines(
  { type, double_quantization: isDouble }: NonNullable<CardContent['base_model']['quantization']>,
  origin: CardContent['origin'],
): string[] {
  const precision = trainedPrecision(origin);
  return [
    'load_in_4bit=True',
    `bnb_4bit_quant_type="${type}"`,
    `bnb_4bit_use_double_quant=${isDouble ? 'True' : 'False'}`,
    `bnb_4bit_compute_dtype=torch.${precision ?? 'bfloat16'}`,
  ].map((setting) => `    ${setting},`);
}

function aboutQuantization({ base_model, origin }: CardContent): string[] {
  const { quantization } = base_model;
  const name = publicName(base_model);
  if (quantization === null) return [];
  const belongs =
    'The adapter belongs to these weights: on the original ones it computes something slightly different.';
  if (quantization.on_load) {
    const experts = quantization.experts
      ? ' Its experts were quantized, too. transformers 5 leaves them as they are, so with the lines below answers differ slightly; those of the merged model do not.'
      : '';
    return [`It was trained on ${inlineText(name)} in 4 bits, quantized when it was loaded. ${belongs}${experts}`];
  }
  const reader = quantization.experts
    ? 'its experts, too: transformers 5 refuses such files'
    : 'which transformers reads from its files';
  const text = `${inlineText(name)} is stored in 4 bits, ${reader}. ${belongs} Its settings:`;
  return [text, codeBlock(['BitsAndBytesConfig(', ...quantizationLines(quantization, origin), ')'])];
}

/**
 * The model card of a model with an adapter merged into it.
 * @param weightsFile - Its first file of weights, whose name says which format it has.
 */
export function derivedCard(adapter: CardContent, weightsFile: string): string {
  const { base_model, name, id } = adapter;
  const isGguf = weightsFile.endsWith('.gguf');
  const isAdapter = weightsFile.includes('-adapter-');
  const relation = isAdapter ? 'adapter' : 'finetune';
  const library = isGguf ? {} : { library_name: 'transformers' };
  const task = base_model.family === 'classifier' ? {} : { pipeline_tag: 'text-generation' };
  const fields = { base_model: publicName(base_model), base_model_relation: relation, ...library, ...task };
  const what = isAdapter ? 'A LoRA adapter for' : 'A LoRA adapter merged into';
  const loading = isGguf
    ? codeBlock([
        isAdapter ? `llama-server -m BASE.gguf --lora ${weightsFile}` : `llama-server -m ${weightsFile}`,
        'ollama create NAME -f Modelfile',
      ])
    : codeBlock([
        'from transformers import AutoModelForCausalLM, AutoTokenizer',
        '',
        'model = AutoModelForCausalLM.from_pretrained("model", dtype="auto")',
        'tokenizer = AutoTokenizer.from_pretrained("model")',
      ]);
  const how = isGguf ? 'With llama.cpp, or with Ollama:' : 'With transformers, where this folder is `model`:';
  return cardOf(fields, [
    `# ${inlineText(name ?? id)}`,
    `${what} ${inlineText(publicName(base_model))}, ${howMade(adapter)} by Lorasmith.`,
    ...about(adapter),
    ...(base_model.family === 'classifier' ? [] : ['## Loading', how, loading]),
  ]);
}

function cardOf(fields: Record<string, string>, parts: readonly string[]): string {
  return `---\n${yamlFields(fields, ['lora', 'lorasmith'])}---\n\n${parts.join('\n\n')}\n`;
}

function howMade({ origin }: CardContent): string {
  switch (origin.kind) {
    case 'trained':
      return 'trained';
    case 'published-checkpoint':
      return `trained (checkpoint of step ${origin.step})`;
    case 'session':
      return `trained call by call (${origin.checkpoint}, ${origin.steps} steps)`;
    case 'imported':
      return 'imported, and not trained,';
  }
}

/** The facts about the base model, the data, the settings and the results. */
function about({ id, base_model, lora, origin }: CardContent): string[] {
  const facts = [
    `- Adapter: \`${id}\`, rank ${lora.r}, alpha ${lora.alpha}, ${lora.modules.length} layers`,
    `- Base model: ${inlineText(publicName(base_model))}, sha256 of its weights \`${base_model.weights_sha256}\``,
  ];
  const made = jobOrigin(origin);
  if (made === null) return [facts.join('\n')];
  const { dataset, settings } = made;
  facts.push(`- Data: \`${dataset.id}\`, ${dataset.rows} rows, sha256 \`${dataset.sha256}\``);
  return [
    facts.join('\n'),
    '## Settings',
    codeBlock(
      Object.entries({ ...settings.lora, ...settings.training }).map(
        ([key, value]) => `${key}: ${JSON.stringify(value)}`,
      ),
    ),
    '## Results',
    results(made),
  ];
}

function results({ result, checks }: Pick<TrainedOrigin, 'result' | 'checks'>): string {
  const { evaluation_before: before, evaluation_after: after } = result;
  const lines = [
    `- ${result.steps} steps, ${result.trained_tokens} trained tokens, loss ${number(result.first_loss)} → ${number(result.last_loss)}`,
  ];
  if (after !== null) {
    const from = before === null ? '' : `${number(before.loss)} → `;
    lines.push(`- Loss on held-out rows: ${from}${number(after.loss)}`);
    lines.push(`- Accuracy on held-out rows: ${number(after.accuracy)}`);
  }
  const difference = number(checks.adapter_difference);
  lines.push(`- Checked before it was published: its log-probabilities differ from the base's by ${difference} (RMS).`);
  return lines.join('\n');
}

function number(value: number): string {
  return String(Number(value.toPrecision(4)));
}

/** Characters that end a line somewhere, that are not shown, or that change the direction of the text behind them. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/** Text of a user within a line of Markdown: no markup, no link, no HTML, no line break. */
export function inlineText(text: string): string {
  return (
    text
      .replace(UNPRINTABLE, ' ')
      .replace(/ +/g, ' ')
      // Any of ASCII's punctuation may be escaped, and each of it is markup in some dialect.
      .replace(/[!-/:-@[-`{-~]/g, '\\$&')
      .replaceAll('\\&', '&amp;')
      .replaceAll('\\<', '&lt;')
      .replaceAll('\\>', '&gt;')
  );
}

/** An indented block of code: no line of it can end the block. */
export function codeBlock(lines: readonly string[]): string {
  return lines.map((line) => `    ${line.replace(UNPRINTABLE, ' ')}`.trimEnd()).join('\n');
}

/** Fields and tags in YAML. A JSON string is one of YAML 1.2, in its double quotes; YAML 1.1 has further line breaks. */
export function yamlFields(fields: Readonly<Record<string, string>>, tags: readonly string[]): string {
  const quoted = Object.entries(fields).map(([key, value]) => `${key}: ${yamlString(value)}\n`);
  return `${quoted.join('')}tags:\n${tags.map((tag) => `- ${tag}\n`).join('')}`;
}

function yamlString(text: string): string {
  return JSON.stringify(text).replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
