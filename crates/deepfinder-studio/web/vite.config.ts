import { defineConfig } from "vite";

// Names without hashes: the program embeds these three files, and `cargo xtask studio` compares them byte by byte.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 100_000,
    rollupOptions: {
      output: {
        entryFileNames: "studio.js",
        assetFileNames: "studio.[ext]",
        inlineDynamicImports: true,
      },
    },
  },
});
