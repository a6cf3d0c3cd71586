import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { addFamily } from '../check-loaders/family-check.mjs';

/** @typedef {import('./ollama-server.mjs').Message} Message */

/** The post-processor of a tokenizer that puts BOS before a text. */
const ADDS_BOS = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
};

/** The kinds of chat templates, in the letters of the tiny models' tokenizer. `</s>` ends a turn and a text. */
const FORMATS = {
  /** ChatML: each message with its role, and a default system message. */
  turns: {
    bos: false,
    template:
      "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<s>sBeBrief</s>{% endif %}" +
      "<s>{{ 'u' if m['role'] == 'user' else ('a' if m['role'] == 'assistant' else 's') }}{{ m['content'] }}</s>{% endfor %}" +
      '{% if add_generation_prompt %}<s>a{% endif %}',
  },
  /** Llama 2 and Mistral: the system message within the first message, BOS before each turn. */
  instructions: {
    bos: true,
    template:
      "{% if messages[0]['role'] == 'system' %}{% set system = 'S' + messages[0]['content'] + 'E' %}{% set rest = messages[1:] %}" +
      "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}" +
      "{{ bos_token + 'I' + (system if loop.first else '') + m['content'] + 'J' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
  },
};

/**
 * The cases of the families, with the kind of their template. qwen3 is computed by Ollama's own engine, the others by its llama.cpp.
 * Left out, as Ollama differs: gemma3-text (its own engine), glm4 (refused), phi3 with LongRoPE (factors by the size of the context).
 */
export const FAMILIES = /** @type {Record<string, keyof typeof FORMATS>} */ ({
  granite: 'turns',
  'mistral-no-window-sharded': 'instructions',
  olmo2: 'turns',
  qwen3: 'turns',
  smollm3: 'instructions',
});

/** Conversations in the letters of the tiny models. @type {Message[][]} */
export const LETTERS = [
  [{ role: 'user', content: 'abcdefg' }],
  [
    { role: 'system', content: 'XYZ' },
    { role: 'user', content: 'kLmNop' },
  ],
  [
    { role: 'user', content: 'abcd' },
    { role: 'assistant', content: 'efgh' },
    { role: 'user', content: 'ijkl' },
  ],
];

/** Conversations for the demo model. @type {Message[][]} */
export const DATES = [
  [{ role: 'user', content: 'the twenty-third of February, nineteen twenty-one' }],
  [
    { role: 'system', content: 'Write the date in ISO format.' },
    { role: 'user', content: 'May the thirtieth, 1900' },
  ],
  [
    { role: 'system', content: 'Write the date in ISO format.' },
    { role: 'user', content: '3 May 2019' },
    { role: 'assistant', content: '2019-05-03' },
    { role: 'user', content: 'Sep 10th 1918' },
  ],
];

/** Makes a tiny model of a family with a chat template. @param {string} name @param {string} modelsDir */
export async function addChatModel(name, modelsDir) {
  const folder = path.join(modelsDir, name);
  await addFamily(name, modelsDir);
  const { bos, template } = FORMATS[/** @type {keyof typeof FORMATS} */ (FAMILIES[name])];
  await writeFile(path.join(folder, 'chat_template.jinja'), template);
  if (!bos) return;
  const file = path.join(folder, 'tokenizer.json');
  const tokenizer = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...tokenizer, post_processor: ADDS_BOS }));
}
