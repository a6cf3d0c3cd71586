import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { Message } from '@lorasmith/contracts';
import { loadChatTemplate, loadTokenizer, readModelFolder } from '@lorasmith/model-folder';
import { generateTexts, loadDecoder } from '@lorasmith/models';
import { chooseKernels } from '@lorasmith/tensor';
import { precisionHere } from './engine-here.js';

const USAGE = `generate --model FOLDER --prompts FILE.jsonl --out FILE.jsonl [--max-new-tokens N]

Answers each conversation ({"messages": […]} a line, without the assistant's turn) by greedy decoding, and writes
{"messages", "text"} a line, in the same order.`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      model: { type: 'string' },
      prompts: { type: 'string' },
      out: { type: 'string' },
      'max-new-tokens': { type: 'string', default: '32' },
      help: { type: 'boolean' },
    },
  });
  const { model: modelFolder, prompts: promptsFile, out } = values;
  const maxNewTokens = Number(values['max-new-tokens']);
  if (
    modelFolder === undefined ||
    promptsFile === undefined ||
    out === undefined ||
    !Number.isSafeInteger(maxNewTokens)
  ) {
    console.error(USAGE);
    return values.help ? 0 : 2;
  }
  const folder = await readModelFolder(modelFolder);
  const tokenizer = await loadTokenizer(modelFolder);
  const template = await loadChatTemplate(modelFolder);
  if (template === null) throw new Error(`${modelFolder} has no chat template`);
  const lines = (await readFile(promptsFile, 'utf8')).split('\n').filter((line) => line.trim() !== '');
  const conversations = lines.map((line) => (JSON.parse(line) as { messages: Message[] }).messages);
  const prompts = conversations.map((messages) =>
    tokenizer.encode(template.render(messages, { addGenerationPrompt: true })),
  );
  const kernels = chooseKernels('fused');
  const { chosen: precision } = precisionHere('auto', folder.architecture.family, null, kernels);
  const decoder = await loadDecoder(folder, precision, kernels);
  const answers = generateTexts(decoder, prompts, { maxNewTokens });
  const written = conversations.map((messages, index) => {
    return JSON.stringify({ messages, text: tokenizer.decode(answers[index]!, { skipSpecialTokens: true }) });
  });
  await writeFile(out, `${written.join('\n')}\n`);
  return 0;
}

process.exitCode = await main();
