export { LoraAdapter, type LoraOptions, type LoraTarget } from './lora-adapter.js';
