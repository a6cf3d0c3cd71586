import { marked, type Token } from 'marked';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { adapterCard, type CardContent, derivedCard, yamlFields } from './model-card.js';

// Names and settings are of users, and a card is shown to others: as what it is, with nothing of them but text.

const HOSTILE: Record<string, string> = {
  'front matter': '---\nlicense: mit\n---\n# Another card',
  YAML: 'a: "b" #c\n- !!python/object:os.system {}',
  'a heading': '# One\n\n## Two\n===',
  'a list and a quotation': '1. one\n- two\n> three',
  'a table': '| a | b |\n| - | - |\n| c | d |',
  'emphasis and code': '*a* _b_ ~~c~~ `d` ```e```',
  links: '[a](javascript:alert(1)) ![b](https://c.example/d.png) <https://e.example> [f]: https://g.example',
  'bare links': 'https://a.example www.b.example c@d.example ftp://e.example',
  HTML: `<script>alert(1)</script><img src=x onerror=alert(2)> <!-- a --> </code></pre> &lt;b&gt;`,
  'line breaks': 'a\r\nb\u2028c\u2029d\u0085e\u000bf\u0000g  \nh\\\ni',
  'a fence': '```\n~~~\n    code\n\ttab',
  mathematics: '$a$ $$b$$ \\(c\\) \\[d\\]',
  'the other direction': 'a\u202eb\u2066c\u200f',
  'what is no text': '\ud800',
};
const SETTINGS = ['r', 'target_modules', 'rank_pattern', 'alpha_pattern', 'max_steps', 'optimizer'];
const sha256 = 'a'.repeat(64);

function content(text: string, kind: 'trained' | 'imported' = 'trained'): CardContent {
  const settings = {
    lora: { r: 4, target_modules: [text], rank_pattern: { [text]: 2 }, alpha_pattern: { [text]: 3 } },
    training: { max_steps: 3, optimizer: text },
  };
  const evaluation = { loss: 2, perplexity: 7.4, accuracy: 0.5, tokens: 9, trained_tokens: 9 };
  const result = { steps: 3, trained_tokens: 9, first_loss: 3, last_loss: 2 };
  const training = {
    ...{ kind, job: `job_${'0'.repeat(24)}`, settings, checks: { adapter_difference: 0.1 } },
    dataset: { id: `ds_${'0'.repeat(24)}`, sha256, rows: 12 },
    result: { ...result, evaluation_before: evaluation, evaluation_after: evaluation },
  };
  return {
    id: `ad_${'0'.repeat(24)}`,
    name: text,
    // A card needs only these parts.
    origin: (kind === 'trained' ? training : { kind }) as CardContent['origin'],
    base_model: {
      name: 'a-model',
      family: 'llama',
      weights_sha256: sha256,
      architecture_sha256: sha256,
      quantization: null,
    },
    lora: { r: 4, alpha: 8, modules: ['q_proj'], rank_pattern: {}, alpha_pattern: {} },
  };
}

const CARDS: Record<string, (text: string) => string> = {
  'of an adapter': (text) => adapterCard(content(text)),
  'of an imported adapter': (text) => adapterCard(content(text, 'imported')),
  'of a merged model': (text) => derivedCard(content(text), 'model.safetensors'),
  'of a merged model as GGUF': (text) => derivedCard(content(text), 'ad_0-merged-f16.gguf'),
  'of an adapter as GGUF': (text) => derivedCard(content(text, 'imported'), 'ad_0-adapter-f32.gguf'),
};

function partsOf(card: string): { fields: unknown; markdown: Token[] } {
  const [, yaml = '', markdown = ''] = /^---\n([\s\S]*?\n)---\n([\s\S]*)$/.exec(card) ?? [];
  return { fields: parse(yaml), markdown: marked.lexer(markdown) };
}
/** The kinds of the blocks, each with those within it, and texts of several pieces as one. */
function outline(tokens: readonly Token[]): unknown[] {
  const kinds = tokens.map((token) => {
    if (token.type === 'text' || token.type === 'escape') return 'tokens' in token ? outline(token.tokens!) : 'text';
    const within = token.type === 'list' ? token.items : 'tokens' in token ? (token.tokens ?? []) : [];
    return [token.type, ...outline(within)];
  });
  return kinds.filter((kind, index) => kind !== 'text' || kinds[index - 1] !== 'text');
}
const ENTITIES: Record<string, string> = { '&amp;': '&', '&lt;': '<', '&gt;': '>' };
const shown = (tokens: readonly Token[]) =>
  tokens
    .map((token) => ('text' in token ? token.text : '').replace(/&\w+;/g, (name: string) => ENTITIES[name] ?? name))
    .join('');
/** The text on one line, without characters that change the direction of other text. */
const asLine = (text: string) => text.replace(/[ \p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]+/gu, ' ').trim();

test.each(Object.entries(CARDS))(
  'the card %s has the same parts whatever a name or a setting contains',
  (_, cardOf) => {
    const usual = partsOf(cardOf('usual'));
    expect(usual.fields).toMatchObject({ base_model: 'a-model', tags: ['lora', 'lorasmith'] });
    for (const [what, text] of Object.entries(HOSTILE)) {
      const { fields, markdown } = partsOf(cardOf(text));
      expect(fields, what).toEqual(usual.fields);
      expect(outline(markdown), what).toEqual(outline(usual.markdown));
      const heading = markdown.find(({ type }) => type === 'heading')!;
      expect(shown('tokens' in heading ? heading.tokens! : []), what).toBe(asLine(text));
    }
  },
);

test('settings are in the card as they were given, on a line each', () => {
  for (const [what, text] of Object.entries(HOSTILE)) {
    const { markdown } = partsOf(adapterCard(content(text)));
    const code = markdown.find(({ type }) => type === 'code') as { text: string } | undefined;
    const lines = new Map(code?.text.split('\n').map((line) => line.split(/: ([\s\S]*)/) as [string, string]));
    expect([...lines.keys()], what).toEqual(SETTINGS);
    const [module] = JSON.parse(lines.get('target_modules')!);
    expect(module, what).toBe(text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, (c) => (c < ' ' ? c : ' ')));
  }
});

test.each(['1.1', '1.2'] as const)('a field in YAML %s has its text and no other', (version) => {
  for (const text of [...Object.values(HOSTILE), 'yes', 'null', '1e3', '2026-01-01', '*a', '&a', '"', "'", '\\', '']) {
    const yaml = yamlFields({ base_model: text, library_name: 'peft' }, ['lora']);
    expect(parse(yaml, { version })).toEqual({ base_model: text, library_name: 'peft', tags: ['lora'] });
    expect(yaml.split(/[\n\r\u0085\u2028\u2029]/).length, text).toBe(5);
  }
});

test('a base model that is quantized when it is loaded is loaded with all four settings of bitsandbytes', () => {
  const plain = content('usual', 'imported');
  const cardOf = (quantization: CardContent['base_model']['quantization']) =>
    adapterCard({ ...plain, base_model: { ...plain.base_model, quantization } });
  expect(cardOf(null)).not.toContain('BitsAndBytesConfig');
  const made = cardOf({ type: 'nf4', double_quantization: true, on_load: true });
  expect(made).toContain(
    [
      'quantization = BitsAndBytesConfig(',
      '    load_in_4bit=True,',
      '    bnb_4bit_quant_type="nf4",',
      '    bnb_4bit_use_double_quant=True,',
      '    bnb_4bit_compute_dtype=torch.bfloat16,',
      ')',
      'base = AutoModelForCausalLM.from_pretrained("a-model", dtype="auto", quantization_config=quantization)',
    ]
      .map((line) => `    ${line}`)
      .join('\n'),
  );
  expect(made).toContain('vllm serve a-model --quantization bitsandbytes --enable-lora');
  expect(made).not.toContain('experts');
  const mixture = cardOf({ type: 'nf4', double_quantization: true, on_load: true, experts: true });
  expect(mixture).toContain('Its experts were quantized, too. transformers 5 leaves them as they are');
  const stored = cardOf({ type: 'fp4', double_quantization: false, on_load: false });
  expect(stored).toContain('from_pretrained("a-model", dtype="auto")');
  expect(stored).not.toContain('experts');
  const experts = cardOf({ type: 'nf4', double_quantization: true, on_load: false, experts: true });
  expect(experts).toContain('is stored in 4 bits, its experts, too: transformers 5 refuses such files.');
  expect(stored).toContain('bnb_4bit_quant_type="fp4",\n        bnb_4bit_use_double_quant=False,');
});
