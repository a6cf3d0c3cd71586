export { JsonGrammars } from './json-grammars.js';
export { movedSchema } from './moved-schema.js';
export { checkSchema, SchemaError, schemaLimits } from './schema-terms.js';
export { GrammarTooLargeError } from './terms.js';
export { TokenTrie } from './token-trie.js';
