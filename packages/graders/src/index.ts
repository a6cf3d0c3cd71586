export { answerScores } from './answer-scores.js';
export { type CompiledGrader, compileGrader, type GradedAnswer, type WebhookGrader } from './compile-grader.js';
export { GraderError } from './grader-error.js';
