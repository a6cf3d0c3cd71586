import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { modelfile } from './modelfile.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'modelfile-'));
});
afterEach(() => rm(folder, { recursive: true }));

const addBos = { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: {} }] };

/** The Modelfile of a folder with this chat template. */
async function of(template: string | null, tokens: string[], { bos = false } = {}): Promise<string> {
  const added = ['<s>', '</s>', ...tokens].map((content, id) => ({ id, content, special: true }));
  const tokenizer = { added_tokens: added, model: { type: 'BPE', vocab: {} }, post_processor: bos ? addBos : null };
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<s>', eos_token: '</s>' }));
  await rm(join(folder, 'chat_template.jinja'), { force: true });
  if (template !== null) await writeFile(join(folder, 'chat_template.jinja'), template);
  return (await modelfile({ modelFolder: folder, from: './model.gguf' }))!;
}

/**
 * The text that Go's text/template writes for a template of this module: conditions on the role and on `$last`, texts and the content.
 */
function rendered(file: string, messages: { role: string; content: string }[]): string {
  const template = /TEMPLATE """(.*)"""/s.exec(file)![1]!;
  const [head, body, tail] =
    /^\{\{ \$last := "" \}\}\{\{ range \.Messages \}\}(.*)\{\{ \$last = \.Role \}\}\{\{ end \}\}(.*)$/s
      .exec(template)!
      .map((part) => part);
  expect(head).toBe(template);
  let last = '';
  let text = '';
  for (const { role, content } of messages) {
    text += run(body!, { role, last, content });
    last = role;
  }
  return text + run(tail!, { role: '', last, content: '' });
}

/** Runs the actions of a template: `if eq`, `else if eq`, `else`, `end`, a string, and the content. */
function run(template: string, values: { role: string; last: string; content: string }): string {
  const states: { active: boolean; done: boolean }[] = [];
  let text = '';
  for (const [, action] of template.matchAll(/\{\{ (.*?) \}\}/gs)) {
    const condition = /^(else )?if eq (\.Role|\$last) (".*")$/s.exec(action!);
    const outer = states.slice(0, -1).every(({ active }) => active);
    if (condition) {
      const holds = (condition[2] === '.Role' ? values.role : values.last) === JSON.parse(condition[3]!);
      if (condition[1] === undefined) states.push({ active: holds, done: holds });
      else {
        const state = states.at(-1)!;
        state.active = !state.done && holds;
        state.done ||= holds;
      }
    } else if (action === 'else') {
      const state = states.at(-1)!;
      state.active = !state.done;
    } else if (action === 'end') states.pop();
    else if (outer && states.every(({ active }) => active)) {
      text += action === '.Content' ? values.content : JSON.parse(action!);
    }
  }
  return text;
}

const conversation = [
  { role: 'user', content: 'One?' },
  { role: 'assistant', content: 'Yes.' },
  { role: 'user', content: '"Two"\n{{ .Role }}' },
];
const withSystem = [{ role: 'system', content: 'Be brief.' }, ...conversation];

test('ChatML with a default system message, which is written where there is none', async () => {
  const file = await of(
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}" +
      "{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}" +
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ['<|im_start|>', '<|im_end|>'],
  );
  expect(file).toContain('FROM ./model.gguf\n');
  expect(file).toContain('PARAMETER repeat_penalty 1\nPARAMETER stop "<|im_end|>"\nPARAMETER stop "</s>"\n');
  const turns =
    '<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n' +
    '<|im_start|>user\n"Two"\n{{ .Role }}<|im_end|>\n<|im_start|>assistant\n';
  expect(rendered(file, conversation)).toBe(`<|im_start|>system\nYou help.<|im_end|>\n${turns}`);
  expect(rendered(file, withSystem)).toBe(`<|im_start|>system\nBe brief.<|im_end|>\n${turns}`);
});

test('Llama 2: the system message stands within the first message; BOS at the start is left to Ollama', async () => {
  const template =
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}" +
    '{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}' +
    "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}" +
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}" +
    "{{ bos_token + '[INST] ' + content + ' [/INST]' }}{% else %}{{ ' ' + content + ' ' + eos_token }}{% endif %}{% endfor %}";
  const turns = 'One? [/INST] Yes. </s><s>[INST] "Two"\n{{ .Role }} [/INST]';
  const file = await of(template, [], { bos: true });
  expect(rendered(file, conversation)).toBe(`[INST] ${turns}`);
  expect(rendered(file, withSystem)).toBe(`[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n${turns}`);
  // Where the tokenizer adds none, the template keeps its own.
  expect(rendered(await of(template, []), conversation)).toBe(`<s>[INST] ${turns}`);
});

test('Gemma: a template that refuses system messages, and calls the assistant otherwise', async () => {
  const file = await of(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" +
      "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}" +
      "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ['<start_of_turn>', '<end_of_turn>'],
    { bos: true },
  );
  const turns =
    '<start_of_turn>user\nOne?<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>\n' +
    '<start_of_turn>user\n"Two"\n{{ .Role }}<end_of_turn>\n<start_of_turn>model\n';
  expect(rendered(file, conversation)).toBe(turns);
  expect(rendered(file, withSystem)).toBe(turns);
  expect(file).toContain('# The model knows no system messages; they are left out.\n');
  expect(file).toContain('PARAMETER stop "<end_of_turn>"');
});

test('the demo model', async () => {
  const modelFolder = new URL('../../../models/SmolLM2-135M-Instruct/', import.meta.url).pathname;
  const file = (await modelfile({ modelFolder, from: '.' }))!;
  const template = await readFile(join(modelFolder, 'chat_template.jinja'), 'utf8');
  expect(template).toContain('You are a helpful AI assistant named SmolLM');
  expect(rendered(file, [{ role: 'user', content: 'Hi' }])).toMatch(
    /^<\|im_start\|>system\nYou are a helpful AI assistant named SmolLM.*<\|im_end\|>\n<\|im_start\|>user\nHi<\|im_end\|>\n<\|im_start\|>assistant\n$/s,
  );
  expect(file).toContain('PARAMETER stop "<|im_end|>"');
});

test.each([
  ['says how many messages there are', '{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}'],
  ['writes a message twice', '{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}'],
  [
    'treats the last answer otherwise',
    '{% for m in messages %}{{ m.content }}{% if loop.last %}!{% else %}{{ loop.index }}{% endif %}{% endfor %}',
  ],
])('a template that %s is left out, which a comment says', async (_, template) => {
  const file = await of(template, []);
  expect(file).not.toContain('TEMPLATE');
  expect(file).toContain('# Ollama takes one of its own');
});

test('without a chat template, a text is continued; without a tokenizer there is no Modelfile', async () => {
  expect(await of(null, [])).toContain('TEMPLATE """{{ .Prompt }}"""\n');
  await rm(join(folder, 'tokenizer.json'));
  expect(await modelfile({ modelFolder: folder, from: '.' })).toBeNull();
});

test('an adapter is applied to its base model', async () => {
  await of(null, []);
  const file = await modelfile({
    modelFolder: folder,
    from: './base.gguf',
    adapter: './a.gguf',
    comments: ['base.gguf is elsewhere.'],
  });
  expect(file).toContain('# base.gguf is elsewhere.\nFROM ./base.gguf\nADAPTER ./a.gguf\n');
});
