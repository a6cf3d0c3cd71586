import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Message } from '@lorasmith/contracts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compileChatTemplate, loadChatTemplate } from './chat-template.js';

const conversation: Message[] = [{ role: 'user', content: 'Hi' }];
const compile = (source: string) => compileChatTemplate(source, { tokens: {}, model: 'tiny' });
const render = (source: string) => compile(source).render(conversation, { addGenerationPrompt: false });
const failure = { name: 'ProductError', code: 'chat_template_failed' };

describe('compared with transformers', async () => {
  const path = join(import.meta.dirname, '../fixtures/chat-templates/cases.json');
  const { templates, tokens, cases } = JSON.parse(await readFile(path, 'utf8'));

  it.each(Object.keys(templates))('%s: the same text', (name) => {
    const template = compileChatTemplate(templates[name], { tokens, model: 'tiny' });
    const ofTemplate = cases.filter((item: { template: string }) => item.template === name);
    expect(ofTemplate.length).toBe(12);
    for (const { messages, add_generation_prompt, text, error } of ofTemplate) {
      const act = () => template.render(messages, { addGenerationPrompt: add_generation_prompt });
      if (error === undefined) expect(act()).toBe(text);
      else expect(act).toThrow(error);
    }
  });
});

describe('compileChatTemplate', () => {
  it('formats strftime_now in English and UTC', () => {
    const source = "{{ strftime_now('%d %b %Y, %A %B %H:%M:%S 100%%') }}";
    const now = new Date(Date.UTC(2024, 6, 5, 4, 3, 2));
    const text = compileChatTemplate(source, { tokens: {}, model: 'tiny', now }).render([], {
      addGenerationPrompt: false,
    });
    expect(text).toBe('05 Jul 2024, Friday July 04:03:02 100%');
  });

  it('leaves a missing token undefined', () => {
    expect(render('{{ bos_token }}{{ bos_token is defined }}')).toBe('False');
  });

  it('range counts as in Python', () => {
    expect(render('{{ range(3) | list }}{{ range(5, 1, -2) | list }}{{ range(3, 1) | list }}')).toBe(
      '[0, 1, 2][5, 3][]',
    );
  });

  it.each(['reasoning_content', 'thinking', 'reasoning'])('gives reasoning to a template that has it as %s', (name) => {
    const template = compile(
      `{% for m in messages %}[{{ m.get('${name}', '-') }}]{{ m.content }}{{ m.keys() | list | length }}{% endfor %}`,
    );
    const messages = [...conversation, { role: 'assistant' as const, content: 'Yes', reasoning_content: 'Hm.' }];
    expect(template.render(messages, { addGenerationPrompt: false })).toBe('[-]Hi2[Hm.]Yes3');
  });

  it('gives reasoning as a part of the content to a template that has it so', () => {
    const template = compile(
      '{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}' +
        "{% if p.type == 'thinking' %}[{{ p.thinking }}]{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}",
    );
    const messages = [
      { role: 'assistant' as const, content: 'Yes', reasoning_content: 'Hm.' },
      { role: 'assistant' as const, content: 'No' },
    ];
    expect(template.render([...conversation, ...messages], { addGenerationPrompt: false })).toBe('Hi[Hm.]YesNo');
  });

  it('gives reasoning beside a call to a template that writes it there alone', () => {
    const template = compile(
      '{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}[{{ m.reasoning_content }}]{{ c.function.name }}' +
        '{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}',
    );
    const call = { type: 'function' as const, function: { name: 'f', arguments: {} } };
    const messages = [
      { role: 'assistant' as const, content: '', reasoning_content: 'Look.', tool_calls: [call] },
      { role: 'assistant' as const, content: 'Yes', reasoning_content: 'Hm.' },
    ];
    expect(template.render([...conversation, ...messages], { addGenerationPrompt: false })).toBe('Hi[Look.]f{}Yes');
  });

  it('refuses reasoning by name where the template writes none', () => {
    const messages = [...conversation, { role: 'assistant' as const, content: 'Yes', reasoning_content: 'Hm.' }];
    const act = () =>
      compile('{% for m in messages %}{{ m.content }}{% endfor %}').render(messages, { addGenerationPrompt: false });
    expect(act).toThrow(/"tiny" writes no reasoning_content/);
    expect(act).toThrow(expect.objectContaining({ ...failure, param: 'messages.1.reasoning_content' }));
  });

  it('has objects with integers as keys, as Python has', () => {
    const source =
      "{% set sizes = {512: 'b', 0: 'a', 16384: 'c'} %}{% for k, v in sizes | dictsort %}{{ k + 1 }}{{ v }} {% endfor %}" +
      "{% for k, v in sizes.items() %}{{ k }}{{ v }} {% endfor %}{{ sizes[512] }}{% set k = 16384 %}{{ sizes[k] }}{{ {'x': [1, 2]}['x'][1] }}";
    expect(render(source)).toBe('1a 513b 16385c 512b 0a 16384c bc2');
  });

  it('reports the message of raise_exception and the model', () => {
    expect(() => render("{{ raise_exception('Only user please') }}")).toThrow(/"tiny" failed: Only user please/);
  });

  it.each([
    ['a syntax error', '{% for %}'],
    ['an unknown filter', '{{ messages | nonsense }}'],
    ['a wrong operand', '{{ messages + 1 }}'],
    ['a huge range', '{% for i in range(1000000000) %}{% endfor %}'],
    ['nested loops', '{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}'],
    ['endless recursion', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'],
    [
      'a text that doubles in a loop',
      "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    ],
    [
      'a list that contains the previous one twice',
      `{% set l = ['a'] %}${'{% set l = [l, l] %}'.repeat(40)}{{ l | tojson }}`,
    ],
    [
      'a namespace that contains itself',
      '{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns }}',
    ],
    ['half a character', "{{ '🚀'[0] }}"],
  ])('reports chat_template_failed for %s', (_, source) => {
    expect(() => render(source)).toThrow(expect.objectContaining(failure));
  });
});

describe('loadChatTemplate', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chat-template-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  const writeConfig = (config: object) => writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
  const rendered = async () => (await loadChatTemplate(folder))?.render(conversation, { addGenerationPrompt: false });

  it('is null if the folder has no template', async () => {
    expect(await loadChatTemplate(folder)).toBeNull();
    await writeConfig({ bos_token: '<s>' });
    expect(await loadChatTemplate(folder)).toBeNull();
  });

  it('prefers the file to the config, and reads the named tokens', async () => {
    await writeConfig({
      chat_template: '{{ bos_token }}config{{ eos_token }}{{ cls_token }}{{ sep_token }}{{ mask_token is defined }}',
      cls_token: '<cls>',
      sep_token: '<sep>',
      bos_token: '<s>',
      eos_token: { content: '</s>' },
    });
    expect(await rendered()).toBe('<s>config</s><cls><sep>False');
    await writeFile(join(folder, 'chat_template.jinja'), '{{ bos_token }}file\n');
    expect(await rendered()).toBe('<s>file');
  });

  it('uses the template named "default"', async () => {
    const named = (name: string) => ({ name, template: name });
    await writeConfig({ chat_template: [named('tool_use'), named('default')] });
    expect(await rendered()).toBe('default');
    await writeConfig({ chat_template: [named('only')] });
    expect(await rendered()).toBe('only');
    await writeConfig({ chat_template: [named('a'), named('b')] });
    await expect(rendered()).rejects.toMatchObject({ code: 'model_file_corrupt' });
    await writeConfig({ chat_template: 7 });
    await expect(rendered()).rejects.toMatchObject({ code: 'model_file_corrupt' });
  });

  it('names a file that is not UTF-8', async () => {
    await writeFile(join(folder, 'chat_template.jinja'), Uint8Array.of(0xff, 0xfe));
    await expect(rendered()).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining('chat_template.jinja'),
    });
  });
});
