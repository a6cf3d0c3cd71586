import { expect, test } from 'vitest';
import { adapterCommands } from './adapter-commands.js';

const subject = {
  serviceUrl: 'http://127.0.0.1:8080/',
  id: 'ad_0123456789abcdef01234567',
  baseModel: 'SmolLM2-135M-Instruct',
  rank: 8,
  needsKey: false,
};
const textOf = (title: string, changes = {}) =>
  adapterCommands({ ...subject, ...changes }).find((one) => one.title === title)!.text;

test('every command has the id of the adapter, and none has a key', () => {
  for (const { text } of adapterCommands({ ...subject, needsKey: true })) {
    expect(text).toContain(subject.id);
    expect(text).not.toContain('lsk_');
  }
  expect(textOf('PEFT and transformers', { needsKey: true })).toContain('Bearer $LORASMITH_API_KEY');
  expect(textOf('PEFT and transformers')).not.toContain('Authorization');
});

test('vLLM is told of a rank above its default', () => {
  expect(textOf('vLLM')).not.toContain('--max-lora-rank');
  expect(textOf('vLLM', { rank: 64 })).toContain('--max-lora-rank 64');
});

test('an address with a quote stays one argument of the shell', () => {
  expect(textOf('llama.cpp', { serviceUrl: "http://host/it's/" })).toContain(
    `'http://host/it'\\''s/adapters/${subject.id}?weights=merged&format=gguf&type=q8_0'`,
  );
});
