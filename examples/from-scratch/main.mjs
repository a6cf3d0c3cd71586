// npm run example: LoRA from the first multiplication to a trained model. With --json it prints only the numbers.
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { linearLayer, loraLayer, savings } from './layers.mjs';
import { layersText, stackText } from './show.mjs';
import { trainedStack } from './trained-stack.mjs';

await runAsCommand(async () => {
  const signal = interruption();
  const asJson = process.argv.includes('--json');
  const say = (/** @type {string} */ text) => void (asJson || process.stdout.write(`${text}\n`));
  try {
    const layers = { linear: linearLayer(), lora: await loraLayer(), savings: savings() };
    say(layersText(layers));
    say('A stack 128 → 256 → ReLU → 10, both layers with r = 8, trained through the HTTP API');
    const stack = await trainedStack({ signal, say: (text) => say(`  ${text}`) });
    say(stackText(stack));
    say('\ndocs/lora.md explains it.');
    if (asJson) process.stdout.write(`${JSON.stringify({ ...layers, stack })}\n`);
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    return 130;
  }
});
