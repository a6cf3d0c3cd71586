import { askedGraderOf, type Grader } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { type CompiledGrader, compileGrader, scoreReader } from './compile-grader.js';

const item = { prompt: 'How many?', reference: { answer: '1,204', words: ['a', 'b'] } };
const grade = (grader: Grader, text: string) => compiled(grader).grade({ item, text });

function compiled(grader: Grader): CompiledGrader {
  const ready = compileGrader(grader);
  if (ready.kind !== 'here') throw new Error('The rewards of this grader come from elsewhere.');
  return ready;
}

describe('string_check', () => {
  test.each([
    ['eq', 'Yes', 'Yes', 1],
    ['eq', 'yes', 'Yes', 0],
    ['ne', 'yes', 'Yes', 1],
    ['ne', 'Yes', 'Yes', 0],
    ['like', 'Oh Yes!', 'Yes', 1],
    ['like', 'Oh yes!', 'Yes', 0],
    ['ilike', 'Oh yes!', 'YES', 1],
    ['ilike', 'no', 'YES', 0],
  ] as const)('%s of %j and %j is as OpenAI has it', (operation, text, reference, reward) => {
    expect(grade({ type: 'string_check', reference, operation }, text)).toBe(reward);
  });

  test('compares templates with fields of the row and of the answer', () => {
    const grader: Grader = {
      type: 'string_check',
      input: '{{ sample.output_json.found.0 }}/{{sample.output_json.none}}',
      reference: '{{item.reference.words.1}}/',
      operation: 'eq',
    };
    expect(grade(grader, '{"found": ["b"]}')).toBe(1);
    expect(grade(grader, '{"found": ["a"]}')).toBe(0);
    expect(grade(grader, 'no JSON')).toBe(0);
    expect(grade({ ...grader, input: '{{item.reference}}', reference: JSON.stringify(item.reference) }, '')).toBe(1);
  });
});

describe('regex', () => {
  test('matches anywhere, in any case only where it is said', () => {
    expect(grade({ type: 'regex', pattern: '\\d{4}-\\d{2}' }, 'on 2019-05-03')).toBe(1);
    expect(grade({ type: 'regex', pattern: '^\\d{4}$' }, 'on 2019')).toBe(0);
    expect(grade({ type: 'regex', pattern: 'yes' }, 'YES')).toBe(0);
    expect(grade({ type: 'regex', pattern: 'yes', ignore_case: true }, 'YES')).toBe(1);
  });

  test('of a pattern that backtracks for ever elsewhere takes linear time', () => {
    // Steps of a backtracking engine: 2 to the power of 30,000.
    expect(grade({ type: 'regex', pattern: '^(a+)+$' }, `${'a'.repeat(30_000)}b`)).toBe(0);
  });
});

describe('number', () => {
  test.each([
    ['It is 1204.', 0, 1],
    ['First 7, then 1,204', 0, 1],
    ['1204.4', 0, 0],
    ['1204.4', 0.5, 1],
    ['-1204', 0, 0],
    ['1.204e3', 0, 1],
    ['many', 1000, 0],
    ['1204 or 3', 0, 0],
    ['1203.9', 0.1, 1],
    ['1204.01', 0.01, 1],
    ['1204.011', 0.01, 0],
    ['\u22121204', 0, 0],
    ['12040e-1', 0, 1],
    ['1e9999', 1000, 0],
  ])('takes the last number of %j, with a tolerance of %f', (text, tolerance, reward) => {
    expect(grade({ type: 'number', reference: '{{item.reference.answer}}', tolerance }, text)).toBe(reward);
  });

  test.each([
    ['0.31', '0.3', 0.01, 1],
    ['3.15', '3.14', 0.01, 1],
    ['3.1500001', '3.14', 0.01, 0],
    ['\u22123', '-3', 0, 1],
    ['9007199254740993', '9007199254740992', 0, 0],
    ['1e-400', '0', 0, 0],
    ['1e400', '1.0e400', 0, 1],
    ['6.02e\u221223', '6.02e-23', 0, 1],
  ])('of %s is compared with %s within %f as they are written', (text, reference, tolerance, reward) => {
    expect(grade({ type: 'number', reference, tolerance }, text)).toBe(reward);
  });

  test('needs a number as its reference', () => {
    const { faultOf } = compiled({ type: 'number', reference: '{{item.reference}}' });
    expect(faultOf({ reference: 4 })).toBeNull();
    expect(faultOf({ reference: 'four' })).toContain('is "four", which is no number');
  });
});

test('json_schema takes JSON of its schema, in any order of the properties', () => {
  const schema = {
    type: 'object',
    properties: { name: { type: 'string' }, age: { type: 'integer', minimum: 0 } },
    required: ['name', 'age'],
    additionalProperties: false,
  };
  const of = (text: string) => grade({ type: 'json_schema', schema }, text);
  expect(of('{"age": 3, "name": "A"}')).toBe(1);
  expect(of('{"name": "A", "age": -3}')).toBe(0);
  expect(of('{"name": "A", "age": 3, "more": 1}')).toBe(0);
  expect(of('{"name": "A"')).toBe(0);
  expect(of('')).toBe(0);
});

test('json_schema takes no member for there that objects of JavaScript inherit', () => {
  const team = { toString: { type: 'string' } };
  const required = { type: 'object', properties: team, required: ['toString'] };
  expect(grade({ type: 'json_schema', schema: required }, '{"toString": "Ferrari"}')).toBe(1);
  expect(grade({ type: 'json_schema', schema: required }, '{}')).toBe(0);
  expect(grade({ type: 'json_schema', schema: { type: 'object', properties: team } }, '{"a": {}}')).toBe(1);
  expect(grade({ type: 'json_schema', schema: { enum: [{ a: [{ b: 1 }] }] } }, '{"a": [{"b": 1}]}')).toBe(1);
});

test('json_schema of a schema that refers to itself answers for any depth', () => {
  const schema = { $ref: '#/$defs/list', $defs: { list: { type: 'array', items: { $ref: '#/$defs/list' } } } };
  expect(grade({ type: 'json_schema', schema }, '[[],[[]]]')).toBe(1);
  const depth = 100_000;
  expect(grade({ type: 'json_schema', schema }, `${'['.repeat(depth)}${']'.repeat(depth)}`)).toBe(0);
});

test('multi calculates a number of several graders', () => {
  const grader: Grader = {
    type: 'multi',
    graders: {
      right: { type: 'number', reference: '{{item.reference.answer}}' },
      short: { type: 'regex', pattern: '^.{0,20}$' },
    },
    calculate_output: '2 * right + short / 4 - 1',
  };
  expect(grade(grader, '1204')).toBe(1.25);
  expect(grade(grader, `${'x'.repeat(30)} 1204`)).toBe(1);
  expect(compiled(grader).faultOf({ reference: {} })).toBe('The row has no reference.answer, which the grader reads.');
});

test('a formula may give what is no number; the caller looks', () => {
  const graders = { a: { type: 'regex' as const, pattern: 'a' } };
  expect(grade({ type: 'multi', graders, calculate_output: '1 / a' }, 'b')).toBe(Number.POSITIVE_INFINITY);
  expect(grade({ type: 'multi', graders, calculate_output: 'a / a' }, 'b')).toBeNaN();
});

test('webhook has an address, and a time for each request', () => {
  const grader: Grader = { type: 'webhook', url: 'https://example.com/grade' };
  expect(compileGrader(grader)).toMatchObject({ kind: 'outside', faultOf: null });
  expect(askedGraderOf(grader)).toEqual({ kind: 'webhook', url: grader.url, timeoutSeconds: 60 });
  expect(askedGraderOf({ ...grader, timeout_seconds: 5 })).toMatchObject({ timeoutSeconds: 5 });
  expect(askedGraderOf({ type: 'regex', pattern: 'a' })).toBeNull();
});

describe('score_model', () => {
  const grader: Grader = {
    type: 'score_model',
    model: 'judge',
    input: 'Score {{sample.output_text}} by {{item.reference}}.',
  };

  test('gets a message with the answer and fields of the row, and asks for rows that have them', () => {
    const compiled = compileGrader(grader);
    if (compiled.kind !== 'outside') expect.fail('it calculates rewards itself');
    const item = { prompt: 'a', reference: ['x', 1.5] };
    expect(compiled.itemOf({ item, text: 'Four.', line: 3, tokens: 2, hasEnded: true })).toEqual({
      line: 3,
      message: 'Score Four. by ["x",1.5].',
    });
    expect(compiled.faultOf!(item)).toBeNull();
    expect(compiled.faultOf!({ prompt: 'a' })).toBe('The row has no reference, which the grader reads.');
  });

  test.each<[string, Partial<Grader>, string, number | null]>([
    ['the last number', {}, 'I gave it 3 points of 4, so 0.75', 0.75],
    ['the last number, alone', {}, ' 1\n', 1],
    ['a number in words of another language', {}, 'Punkte: −0.5', null],
    ['no number', {}, 'It is a good answer.', null],
    ['a number beyond the range', {}, '8', null],
    ['a number within another range', { range: [1, 10] }, '8', 8],
    ['a negative number', { range: [-1, 1] }, 'score: -0.5', -0.5],
    ['a pattern with a group', { pattern: 'SCORE: (\\S+)' }, 'SCORE: 0.5 (of 1)', 0.5],
    ['a pattern without one', { pattern: '0\\.\\d+' }, 'from 0.25 to 1', 0.25],
    ['a pattern in any case', { pattern: 'score: (.*)', ignore_case: true }, 'SCORE: 1', 1],
    ['a pattern that is not there', { pattern: 'SCORE: (.*)' }, 'score: 1', null],
    ['a group without a number', { pattern: 'SCORE: (.*)' }, 'SCORE: high, 1\n', 1],
    ['a group that did not match', { pattern: 'SCORE:( \\d)?' }, 'SCORE: high', null],
  ])('reads %s', (_, changes, said, score) => {
    const judge = askedGraderOf({ ...grader, ...changes });
    if (judge?.kind !== 'judge') expect.fail('it is no judge');
    expect(scoreReader(judge)(said)).toBe(score);
  });
});

test.each<[Grader, string, string]>([
  [{ type: 'webhook' }, 'url', 'needs url'],
  [{ type: 'webhook', url: 'https://example.com/', input: '{{sample.output_text}}' }, 'input', 'has no input'],
  [{ type: 'regex', pattern: 'a', url: 'https://example.com/' }, 'url', 'has no url'],
  [{ type: 'score_model', input: '{{sample.output_text}}' }, 'model', 'needs model'],
  [{ type: 'score_model', model: 'a' }, 'input', 'needs input'],
  [{ type: 'score_model', model: 'a', input: '{{item.reference}}' }, 'input', 'no answer to score'],
  [{ type: 'score_model', model: 'a', input: '{{sample.output_text}}', pattern: '(' }, 'pattern', "RE2's syntax"],
  [{ type: 'score_model', model: 'a', input: '{{sample.output_text}}', ignore_case: true }, 'ignore_case', 'pattern'],
  [{ type: 'score_model', model: 'a', input: '{{sample.output_text}}', range: [1, 1] }, 'range', 'less than'],
  [{ type: 'regex', pattern: 'a', model: 'a' }, 'model', 'has no model'],
  [{ type: 'string_check', operation: 'eq' }, 'reference', 'needs reference'],
  [{ type: 'string_check', reference: 'a' }, 'operation', 'needs operation'],
  [{ type: 'regex' }, 'pattern', 'needs pattern'],
  [{ type: 'regex', pattern: 'a', tolerance: 1 }, 'tolerance', 'has no tolerance'],
  [{ type: 'regex', pattern: '(' }, 'pattern', "not of RE2's syntax"],
  [{ type: 'regex', pattern: '(?=a)b' }, 'pattern', "not of RE2's syntax"],
  [{ type: 'regex', pattern: '(a)\\1' }, 'pattern', "not of RE2's syntax"],
  [{ type: 'regex', pattern: '((a{100}){100}){100}' }, 'pattern', 'The'],
  [{ type: 'regex', pattern: '(ab|cd){400}' }, 'pattern', 'instructions; 1000 is the most'],
  [{ type: 'regex', pattern: 'a', input: '{{sample.text}}' }, 'input', 'There is no {{sample.text}}'],
  [{ type: 'number', reference: '{{item}}' }, 'reference', 'There is no {{item}}'],
  [{ type: 'json_schema', schema: { type: 'string', pattern: '(a+)+$' } }, 'schema.pattern', 'not supported'],
  [{ type: 'json_schema', schema: 3 }, 'schema', 'It is not a schema'],
  [{ type: 'text_similarity', reference: 'a' }, 'evaluation_metric', 'needs evaluation_metric'],
  [{ type: 'multi', calculate_output: 'a' }, 'graders', 'needs graders'],
  [{ type: 'multi', graders: {}, calculate_output: 'a' }, 'calculate_output', 'has a, which is no grader'],
  [
    { type: 'multi', graders: { a: { type: 'regex', pattern: '[' } }, calculate_output: 'a' },
    'graders.a.pattern',
    "not of RE2's syntax",
  ],
  [
    { type: 'multi', graders: { a: { type: 'regex', pattern: 'a' } }, calculate_output: '1' },
    'graders.a',
    'does not have the grader a',
  ],
])('%j is refused at %s', (grader, param, message) => {
  expect(() => compileGrader(grader)).toThrow(
    expect.objectContaining({ param, message: expect.stringContaining(message) }),
  );
});
