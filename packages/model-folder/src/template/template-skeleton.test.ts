import type { Message } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { Environment, parse, tokenize } from './jinja-library.js';
import { TemplateInterpreter } from './template-interpreter.js';
import { skeletonOf } from './template-skeleton.js';

const conversation = (...contents: string[]): Message[] =>
  contents.map((content, index) => ({ role: index % 2 === 0 ? 'user' : 'assistant', content }));
const conversations = [
  conversation('one', 'two', 'three'),
  conversation('', ' \n', 'hello'),
  conversation(' a ', 'hello', '{{ x }}'),
  conversation('\0', '🚀', 'None'),
];
const compiled = (source: string) => parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));

test.each([
  ['printed', '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}'],
  ['joined', "{% for m in messages %}{{ '<' + m['content'] ~ '>' + 1 | string }}{% endfor %}"],
  ['stripped', "{% for m in messages %}{{ (' ' + m.content) | trim }}|{{ m.content.strip() }}{% endfor %}"],
  ['kept in variables', '{% set x %}[{{ messages[0].content }}]{% endset %}{% set y = x ~ x %}{{ y }}{{ y | trim }}'],
  [
    'kept in a namespace',
    "{% set n = namespace(t='') %}{% for m in messages %}{% set n.t = n.t + m.content %}{% endfor %}{{ n.t }}",
  ],
  ['given to a macro', '{% macro f(x) %}({{ x }}){% endmacro %}{% for m in messages %}{{ f(m.content) }}{% endfor %}'],
  [
    'printed by a nested loop',
    '{% for m in messages %}{% for k, v in m.items() %}{{ k }}{{ v }}{% endfor %}{% endfor %}',
  ],
  ['tested for their type', '{{ messages[0].content is string }}{{ messages[0].content is defined }}'],
  ['compared', "{% for m in messages %}{{ m.content == 'hello' }}{{ 'one' != m.content }}{% endfor %}"],
  ['searched', "{{ 'l' in messages[2].content }}{{ 'l' not in messages[1].content ~ messages[2].content }}"],
  [
    'tested',
    "{{ 'x' if messages[1].content }}{{ not messages[0].content }}{{ messages[0].content or messages[1].content }}",
  ],
  [
    'tested at their ends',
    "{% set m = messages[0].content %}{{ m.startswith('o') and m.endswith('e') }}{{ m.startswith('') }}",
  ],
  ['stripped of characters', "{{ messages[0].content.strip('o') }}{{ ('xx' ~ messages[1].content).lstrip('x h') }}"],
])('contents that are %s have an outline', (_, source) => {
  const program = compiled(source);
  let fits = 0;
  for (const given of conversations) {
    const skeleton = skeletonOf(program, given, new Environment());
    expect(skeleton.fits(given)).toBe(true);
    for (const messages of conversations) {
      if (!skeleton.fits(messages)) continue;
      const environment = new Environment();
      environment.set('messages', messages);
      expect(skeleton.fill(messages)).toBe(new TemplateInterpreter(environment).run(program).value);
      fits++;
    }
  }
  expect(fits).toBeGreaterThanOrEqual(conversations.length);
});

test('reasoning is left open like contents, of the messages that have any', () => {
  const source =
    "{% for m in messages %}{% set thought = m.thinking or '' %}{% if thought %}({{ thought.strip('\\n') }}){% endif %}" +
    '{{ m.content }}{% if m.thinking is string %}!{% endif %}{% endfor %}';
  const program = compiled(source);
  const thinking = (...thoughts: (string | undefined)[]) =>
    thoughts.map((thought, index) => ({
      ...{ role: 'assistant' as const, content: `${index}` },
      ...(thought === undefined ? {} : { thinking: thought }),
    }));
  const skeleton = skeletonOf(program, thinking('a', undefined, 'b'), new Environment());
  expect(skeleton.fill(thinking('\nSum.\n', undefined, 'Product.'))).toBe('(Sum.)0!1(Product.)2!');
  expect(skeleton.fits(thinking('a', undefined, 'b'))).toBe(true);
  expect(skeleton.fits(thinking('', undefined, 'b'))).toBe(false);
});

test.each([
  ['searched in a list', "{{ messages[0].content in ['one'] }}"],
  ['compared with each other', '{{ messages[0].content == messages[1].content }}'],
  ['compared with nothing', '{{ messages[0].content == none }}'],
  ['searched for in a text', "{{ messages[0].content in 'one, two' }}"],
  ['measured', '{% set x %}{{ messages[0].content }}{% endset %}{{ x | length }}'],
  ['cut', '{{ messages[0].content[1:] }}'],
  ['changed', '{{ messages[0].content | upper }}'],
  ['changed in a block', '{% filter upper %}{{ messages[0].content }}{% endfilter %}'],
  ['split', "{{ messages[0].content.split('n') | first }}"],
  ['printed in JSON', '{{ messages | tojson }}'],
  ['printed in a list', '{{ [messages[0].content] }}'],
  ['joined by a filter', "{{ messages | map(attribute='content') | join }}"],
  ['given to a function', '{{ raise_exception(messages[0].content) }}'],
  ['repeated beyond a limit', '{% for i in range(9999) %}{{ messages[0].content }}{% endfor %}'],
])('contents that are %s have none', (_, source) => {
  const variables = new Environment();
  variables.set('range', (length: number) => Array.from({ length }, () => 0));
  variables.set('raise_exception', () => null);
  expect(skeletonOf(compiled(source), conversations[0]!, variables).fill(conversations[0]!)).toBeNull();
});
