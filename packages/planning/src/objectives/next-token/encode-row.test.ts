import type { Message, TextualRow } from '@lorasmith/contracts';
import { loadChatTemplate, loadTokenizer } from '@lorasmith/model-folder';
import { describe, expect, it } from 'vitest';
import { CHATML, type TinyTokenizer, tinyTokenizerFolder } from '../../../test/tiny-model.js';
import { RowEncoder } from './encode-row.js';

const ALPACA_START = 'Below is an instruction that describes a task';
const user = (content: string): Message => ({ role: 'user', content });
const assistant = (content: string): Message => ({ role: 'assistant', content });

/** The row as text, cut where training begins or ends; what is trained is in brackets. */
async function encode(name: TinyTokenizer, template: string | null, row: TextualRow, endTokenIds?: number[]) {
  const folder = await tinyTokenizerFolder(name, template);
  const tokenizer = await loadTokenizer(folder);
  const ends = endTokenIds ?? (tokenizer.eosTokenId === null ? [] : [tokenizer.eosTokenId]);
  const encoder = new RowEncoder({ tokenizer, template: await loadChatTemplate(folder), endTokenIds: ends });
  const { ids, trained } = encoder.encode(row);
  expect(trained.length).toBe(ids.length);
  let marked = '';
  for (let start = 0, end = 0; start < ids.length; start = end) {
    while (end < ids.length && trained[end] === trained[start]) end++;
    const text = tokenizer.decode(ids.subarray(start, end));
    marked += trained[start] === 1 ? `[${text}]` : text;
  }
  return { marked, ids: [...ids], tokenizer };
}

describe('messages', () => {
  it('trains every assistant turn with its end, and nothing else', async () => {
    const row = { messages: [user('Hi'), assistant('Hello'), user('And?'), assistant('Bye'), user('?')] };
    const { marked, ids, tokenizer } = await encode('qwen2', CHATML, row);
    expect(marked).toBe(
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Hello<|im_end|>\n]' +
        '<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n[Bye<|im_end|>\n]<|im_start|>user\n?<|im_end|>\n',
    );
    expect(ids).toEqual([...tokenizer.encode(marked.replaceAll(/[[\]]/g, ''))]);
  });

  it('trains what a template without a generation prompt writes of the turn', async () => {
    const template =
      "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}" +
      "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";
    const row = { messages: [user('Hi'), assistant('Hello'), user('So'), assistant('Bye')] };
    for (const name of ['llama2-legacy', 'llama2-metaspace'] as const) {
      const { ids, tokenizer } = await encode(name, template, row);
      const whole = '<s>[INST] Hi [/INST] Hello</s>[INST] So [/INST] Bye</s>';
      expect(ids).toEqual([...tokenizer.encode(whole)]);
      const { marked } = await encode(name, template, row);
      expect(marked).toMatch(/\[\/INST\]\[ ?Hello<\/s>\] ?\[INST\] So \[\/INST\]\[ ?Bye<\/s>\]$/);
    }
  });

  it('ends a last turn that the template leaves open', async () => {
    const open =
      "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    const { marked } = await encode('qwen2', open, { messages: [user('Hi'), assistant('Hello')] });
    expect(marked).toBe('user: Hi\nassistant:[ Hello\n<|im_end|>]');
    const asked = await encode('qwen2', open, { messages: [user('Hi'), assistant('Hello'), user('So')] });
    expect(asked.marked).toBe('user: Hi\nassistant:[ Hello\n]user: So\n');
  });

  it('keeps to the tokens of generation where a token would lie across the border', async () => {
    // "the" is one token, but who gives the model "In th" has to get "e" from it.
    const { ids, tokenizer } = await encode('qwen2', '{% for m in messages %}{{ m.content }}{% endfor %}', {
      messages: [user('In th'), assistant('e end<|im_end|>')],
    });
    const prompt = [...tokenizer.encode('In th')];
    expect(ids).toEqual([...prompt, ...tokenizer.encode('e end<|im_end|>')]);
    expect([...tokenizer.encode('In the end')].slice(0, prompt.length)).not.toEqual(prompt);
  });

  it('refuses a border that it cannot keep without changing the text', async () => {
    const template = '{% for m in messages %}{{ m.content }}{% endfor %}';
    const row = { messages: [user('sold clips to fri'), assistant('ends')] };
    await expect(encode('llama2-legacy', template, row)).rejects.toMatchObject({
      code: 'chat_template_failed',
      message: expect.stringContaining('space'),
    });
  });

  const whole = 'upload rows of "text"';
  it.each([
    [
      'a template that leaves out past turns',
      "{% for m in messages %}{{ m.content if loop.last or m.role == 'user' else '-' }}|{% endfor %}",
      [1, 'end the row with this turn'],
    ],
    [
      'a template that writes what is asked differently once it is answered',
      "{% for m in messages %}{{ m.content if loop.last else '-' }}|{% endfor %}",
      [1, whole],
    ],
    [
      'a template that asks in other words once more is said',
      "{% for m in messages %}{{ m.content ~ ('!' if loop.last else '.') }}{% endfor %}",
      [1, whole],
    ],
    [
      'a template that writes a turn twice',
      `${CHATML}{% if not add_generation_prompt %}{{ messages[0].content ~ messages[1].content }}{% endif %}`,
      [1, 'end the row with this turn'],
    ],
  ])('refuses %s', async (_, template, [turn, advice]) => {
    const row = { messages: [user('Hi'), assistant('Hello'), user('So'), assistant('Bye')] };
    await expect(encode('qwen2', template, row)).rejects.toMatchObject({
      code: 'chat_template_failed',
      param: `messages.${turn}`,
      message: expect.stringContaining(advice as string),
    });
  });

  it('trains nothing of a default system message, nor the header of a first turn', async () => {
    const template =
      "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" +
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}" +
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    const row = { messages: [assistant('Hello'), user('Hi'), assistant('Bye')] };
    expect((await encode('qwen2', template, row)).marked).toBe(
      '<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>assistant\n[Hello<|im_end|>\n]' +
        '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Bye<|im_end|>\n]',
    );
  });

  it('locates a first turn in a template that refuses messages without a user', async () => {
    const template =
      "{% if not messages | selectattr('role', 'equalto', 'user') | list %}{{ raise_exception('No user') }}{% endif %}" +
      CHATML;
    const system: Message = { role: 'system', content: 'Be kind.' };
    const row = { messages: [system, assistant('Hello'), user('Hi')] };
    expect((await encode('qwen2', template, row)).marked).toContain('assistant\n[Hello<|im_end|>\n]<|im_start|>user');
  });

  it('refuses a first turn that a template writes otherwise after a user', async () => {
    const template =
      "{% for m in messages %}{{ (m.content | upper if loop.first else m.content) + '<|im_end|>' }}{% endfor %}";
    const row = { messages: [assistant('Hello'), user('Hi')] };
    await expect(encode('qwen2', template, row)).rejects.toMatchObject({
      code: 'chat_template_failed',
      param: 'messages.0',
      message: expect.stringContaining('Put a user message before it'),
    });
  });

  it('trains the end of every turn, also where the last turn ends with another mark', async () => {
    const template =
      "{% for m in messages %}{{ m.content + ('<|im_end|>' if loop.last and m.role == 'assistant' else '<|im_start|>') }}{% endfor %}";
    const row = { messages: [user('Hi'), assistant('Hello'), user('So'), assistant('Bye')] };
    expect((await encode('qwen2', template, row)).marked).toBe(
      'Hi<|im_start|>[Hello<|im_start|>]So<|im_start|>[Bye<|im_end|>]',
    );
  });

  it('trains what the template marks as generated, where it has marks', async () => {
    const template =
      "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}\n  {% generation %}\n{{ m.content }}" +
      '{%- endgeneration %}\n{{ eos_token }}{% else %}{{ m.content }}{% endif %}{{ "\\n" }}{% endfor %}';
    const row = { messages: [user('Hi'), assistant('Hello')] };
    const { marked } = await encode('qwen2', template, row);
    expect(marked).toBe('user: Hi\nassistant: [Hello<|im_end|>]\n');
    const unweighted = {
      messages: [user('Hi'), { ...assistant('No'), weight: 0 as const }, user('?'), assistant('Yes')],
    };
    expect((await encode('qwen2', template, unweighted)).marked).toContain('assistant: No');
  });

  it('gives contents as parts to a template that takes no texts', async () => {
    const template = CHATML.replace("message['content']", "message['content'][0]['text']");
    const row = { messages: [user('Hi'), assistant('Hello')] };
    expect((await encode('qwen2', template, row)).marked).toContain('assistant\n[Hello<|im_end|>\n]');
  });

  it('needs a chat template', async () => {
    await expect(encode('qwen2', null, { messages: [user('Hi'), assistant('Hello')] })).rejects.toMatchObject({
      code: 'dataset_format_mismatch',
    });
  });
});

describe('prompt and completion', () => {
  it('are a user and an assistant turn where there is a chat template', async () => {
    const { marked } = await encode('qwen2', CHATML, { prompt: 'Hi', completion: 'Hello' });
    expect(marked).toBe('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Hello<|im_end|>\n]');
  });

  it('are text with BOS and end of text where there is none', async () => {
    const llama3 = await encode('llama3', null, { prompt: 'Q: 1+1?', completion: ' 2' });
    expect(llama3.marked).toBe('<|begin_of_text|>Q: 1+1?[ 2<|eot_id|>]');
    const qwen2 = await encode('qwen2', null, { prompt: 'Q: 1+1?', completion: ' 2<|im_end|>' });
    expect(qwen2.marked).toBe('Q: 1+1?[ 2<|im_end|>]');
    const llama2 = await encode('llama2-legacy', null, { prompt: 'How many clips', completion: ' Natalia sold' });
    expect(llama2.ids).toEqual([1, ...llama2.tokenizer.encode('How many clips Natalia sold'), 2]);
  });

  it('never train the first token', async () => {
    const { marked } = await encode('qwen2', null, { prompt: '', completion: 'ab' });
    expect(marked).toBe('a[b<|im_end|>]');
  });

  it('do without an end of text that nobody knows', async () => {
    expect((await encode('qwen2', null, { prompt: 'a', completion: 'b' }, [])).marked).toBe('a[b]');
  });
});

describe('instruction', () => {
  it('is a user turn where there is a chat template', async () => {
    const row = { instruction: 'Translate', input: 'Hola', output: 'Hello' };
    expect((await encode('qwen2', CHATML, row)).marked).toContain('user\nTranslate\n\nHola<|im_end|>\n');
    expect((await encode('qwen2', CHATML, { ...row, input: '' })).marked).toContain('user\nTranslate<|im_end|>\n');
  });

  it('has the form of Alpaca where there is none', async () => {
    const row = { instruction: 'Translate', input: 'Hola', output: 'Hello' };
    const { marked } = await encode('qwen2', null, row);
    expect(marked).toMatch(new RegExp(`^${ALPACA_START}, paired with an input`));
    expect(marked).toMatch(
      /\n\n### Instruction:\nTranslate\n\n### Input:\nHola\n\n### Response:\n\[Hello<\|im_end\|>\]$/,
    );
    const { input: _, ...bare } = row;
    const without = (await encode('qwen2', null, bare)).marked;
    expect(without).toMatch(new RegExp(`^${ALPACA_START}\\. Write`));
    expect(without).toMatch(/### Instruction:\nTranslate\n\n### Response:\n\[Hello<\|im_end\|>\]$/);
  });
});

describe('text', () => {
  it('is trained completely, from the second token on', async () => {
    expect((await encode('llama3', null, { text: 'ab' })).marked).toBe('<|begin_of_text|>[ab<|eot_id|>]');
    expect((await encode('qwen2', CHATML, { text: 'ab' })).marked).toBe('a[b<|im_end|>]');
  });

  it('gets no second end of text', async () => {
    expect((await encode('qwen2', null, { text: 'ab<|im_end|>' })).marked).toBe('a[b<|im_end|>]');
    expect((await encode('qwen2', null, { text: 'ab<|endoftext|>' }, [2, 0])).marked).toBe('a[b<|endoftext|>]');
  });
});
