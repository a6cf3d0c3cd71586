// Test equipment: starts the complete stack as `npm start` does, reports its address, and runs until it is killed.
import { startStack } from '../../../scripts/stack/start-stack.mjs';

const { DATA_DIR = '', MODELS_DIR = '' } = process.env;
const { apiUrl } = await startStack({ dataDir: DATA_DIR, modelsDir: MODELS_DIR });
process.send?.({ apiUrl });
