// Test equipment: starts the whole stack as `npm start` does, says where it is, and waits to be killed.
import { startStack } from '../../../scripts/stack/start-stack.mjs';

const { DATA_DIR = '', MODELS_DIR = '' } = process.env;
const { apiUrl } = await startStack({ dataDir: DATA_DIR, modelsDir: MODELS_DIR });
process.send?.({ apiUrl });
