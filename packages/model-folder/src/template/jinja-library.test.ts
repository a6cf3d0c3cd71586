import { describe, expect, test } from 'vitest';
import {
  type BinaryExpression,
  BooleanValue,
  Environment,
  Evaluated,
  elementsOf,
  type FilterExpression,
  type For,
  Interpreter,
  isNamespace,
  isPrinted,
  type JinjaEnvironment,
  type JinjaNode,
  type JinjaValue,
  methodCallOf,
  NOTHING,
  parse,
  replaceFields,
  StringValue,
  textOfValue,
  tokenize,
  UnknownText,
  withOperands,
} from './jinja-library.js';

// These tests hold the undocumented parts of @huggingface/jinja that skeletons of templates depend on.

/** An interpreter that evaluates {@link Evaluated} and records its calls. */
class Watched extends Interpreter {
  readonly statements: JinjaNode[] = [];
  readonly values: JinjaValue[] = [];
  readonly blocks: (readonly JinjaNode[])[] = [];

  override evaluate(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue {
    this.statements.push(statement!);
    const value = statement instanceof Evaluated ? statement.value : super.evaluate(statement, environment);
    this.values.push(value);
    return value;
  }

  override evaluateBlock(statements: readonly JinjaNode[], environment: JinjaEnvironment): JinjaValue {
    this.blocks.push(statements);
    return super.evaluateBlock(statements, environment);
  }
}

function watched(source: string, variables: Record<string, unknown> = {}) {
  const environment = new Environment();
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  const interpreter = new Watched(environment);
  const result = interpreter.run(parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })));
  const first = <Node extends JinjaNode>(type: string) =>
    interpreter.statements.find((statement) => statement.type === type) as Node;
  return { interpreter, environment, text: textOfValue(result), first };
}

describe('statements', () => {
  test('a binary expression has an operator and two operands, which may be evaluated ones', () => {
    const { interpreter, environment, first } = watched("{{ 'a' ~ 'b' }}");
    const statement = first<BinaryExpression>('BinaryExpression');
    expect(statement.operator.value).toBe('~');
    expect([statement.left.type, statement.right.type]).toEqual(['StringLiteral', 'StringLiteral']);
    const changed = withOperands(statement, { right: new StringValue('c') });
    expect(textOfValue(interpreter.evaluate(changed, environment))).toBe('ac');
  });

  test('a filter has an operand and a name', () => {
    const { interpreter, environment, first } = watched("{{ ' a ' | trim }}");
    const statement = first<FilterExpression>('FilterExpression');
    expect(statement.filter).toMatchObject({ type: 'Identifier', value: 'trim' });
    const changed = withOperands(statement, { operand: new StringValue(' c ') });
    expect(textOfValue(interpreter.evaluate(changed, environment))).toBe('c');
  });

  test('a call of a method has an object, a name and arguments', () => {
    const { interpreter, environment, first } = watched("{{ 'abc'.startswith('a') }}");
    const call = methodCallOf(first('CallExpression'));
    expect(call).toMatchObject({ method: 'startswith', object: { type: 'StringLiteral' } });
    expect(call?.args).toMatchObject([{ type: 'StringLiteral' }]);
    expect(interpreter.evaluate(call!.on(new StringValue('xyz')), environment).value).toBe(false);
  });

  test('other calls are no calls of a method by its name', () => {
    const { first } = watched("{{ f('a') }}", { f: () => 'b' });
    expect(methodCallOf(first('CallExpression'))).toBeNull();
    expect(methodCallOf(first('StringLiteral'))).toBeNull();
    expect(methodCallOf(undefined)).toBeNull();
  });

  test('the blocks of a loop are evaluated as such, and their texts are joined', () => {
    const { interpreter, first, text } = watched('{% for i in [1, 2] %}{{ i }}{% else %}none{% endfor %}');
    const { body, defaultBlock } = first<For>('For');
    expect(interpreter.blocks.filter((block) => block === body)).toHaveLength(2);
    expect(defaultBlock).toHaveLength(1);
    expect(text).toBe('12');
    expect(watched('{% filter upper %}a{% endfilter %}').first('FilterStatement')).toBeDefined();
  });

  test('a turn of a loop is left by statements of their own', () => {
    expect(watched('{% for i in [1] %}{% continue %}{% endfor %}').first('Continue')).toBeDefined();
    expect(watched('{% for i in [1] %}{% break %}{% endfor %}').first('Break')).toBeDefined();
  });
});

describe('values', () => {
  const evaluated = (source: string, variables: Record<string, unknown> = {}) =>
    watched(`{{ ${source} }}`, variables).interpreter.values.at(-2)!;

  test('texts, booleans, lists, objects and namespaces are told apart', () => {
    expect(evaluated("'a'")).toBeInstanceOf(StringValue);
    expect(textOfValue(evaluated("'a'"))).toBe('a');
    expect(textOfValue(evaluated('1'))).toBeNull();
    expect(evaluated('1 == 1')).toEqual(new BooleanValue(true));
    expect([...elementsOf(evaluated("['a']"))!].map(textOfValue)).toEqual(['a']);
    expect([...elementsOf(evaluated('x', { x: { a: 'b' } }))!].map(textOfValue)).toEqual(['b']);
    expect(elementsOf(evaluated("'a'"))).toBeNull();
    const { interpreter } = watched("{% set n = namespace(a='b') %}");
    const namespace = interpreter.values.find(isNamespace)!;
    expect([...elementsOf(namespace)!].map(textOfValue)).toEqual(['b']);
    const statement = { type: 'Identifier' };
    const printed = ['none', 'absent', "'a'"].map((source) => isPrinted(evaluated(source, { none: null }), statement));
    expect(printed).toEqual([true, false, true]);
    const silent = watched('{% set a = 1 %}{# a #}{% macro f() %}{% endmacro %}').interpreter;
    expect(silent.statements.map(({ type }) => type)).toEqual(expect.arrayContaining(['Set', 'Macro']));
    for (const type of ['Set', 'Macro', 'Comment', 'Continue', 'Break'])
      expect(isPrinted(NOTHING, { type })).toBe(false);
  });

  test('fields of the objects of a list can be replaced, of those that have them', () => {
    const environment = new Environment();
    const list = environment.set('list', [{ a: 'x' }, { a: 'y', b: 'z' }]);
    replaceFields(list, ['a', 'b'], (index, name) => new StringValue(`${name}${index}`));
    const source = '{{ list[0].a }} {{ list[0].b is defined }} {{ list[1].a }} {{ list[1].b }}';
    const program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    expect(new Interpreter(environment).run(program).value).toBe('a0 false a1 b1');
  });
});

describe('a text that is not known', () => {
  class Empty extends UnknownText {
    override isNotEmpty(): boolean {
      return false;
    }
  }
  const rendered = (source: string) => {
    const environment = new Environment();
    replaceFields(environment.set('list', [{ x: '' }]), ['x'], () => new Empty(1));
    const program = parse(tokenize(source.replaceAll('TEXT', 'list[0].x'), { lstrip_blocks: true, trim_blocks: true }));
    return new Interpreter(environment).run(program).value;
  };

  test.each([
    ["{{ 'x' if TEXT else 'y' }}", 'y'],
    ["{% if TEXT %}x{% else %}y{% endif %}{{ TEXT or 'z' }}", 'yz'],
    ['{{ not TEXT }}', 'true'],
    ["{{ TEXT is string }}{{ 'a' if TEXT is defined }}", 'truea'],
  ])('can be asked whether it is empty: %s', (source, text) => {
    expect(rendered(source)).toBe(text);
  });

  test.each([
    '{{ TEXT }}',
    "{{ TEXT ~ 'a' }}",
    "{{ TEXT == 'a' }}",
    "{{ TEXT in 'a' }}",
    "{{ 'a' in TEXT }}",
    '{{ TEXT | trim }}',
    '{{ TEXT | length }}',
    '{{ TEXT.strip() }}',
    "{{ TEXT.split('a') }}",
    '{{ TEXT[0] }}',
    '{{ [TEXT] }}',
    '{{ list | tojson }}',
    "{{ list | map(attribute='x') | join }}",
    '{% for c in TEXT %}{% endfor %}',
  ])('throws whatever else is done with it: %s', (source) => {
    expect(() => rendered(source)).toThrow();
  });
});
