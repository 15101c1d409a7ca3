{
  # The fallback build (node-gyp): portable CPU kernels, no CMake, no options. Sources come from the lists CMakeLists.txt reads.
  "variables": {
    "isa_sources": ["<!@(cat native/sources-cpu-isa.txt)"],
    "common_flags": ["-std=c++20", "-O3", "-fopenmp", "-fvisibility=hidden", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"],
    "openssl_fips": ""
  },
  "target_defaults": {
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-exceptions", "-fno-rtti", "-O3"],
    "cflags!": ["-O3"],
    "cflags_cc": ["<@(common_flags)"],
    "include_dirs": ["native"]
  },
  "targets": [
    {
      "target_name": "polypaca_cpu_baseline",
      "type": "static_library",
      "sources": ["<@(isa_sources)"],
      "defines": ["POLYPACA_ISA=baseline"]
    },
    {
      "target_name": "polypaca",
      "sources": ["<!@(cat native/sources-cpu.txt)"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "POLYPACA_VERSION=\"<!(node -p \"require('./package.json').version\")\""],
      "dependencies": ["polypaca_cpu_baseline"],
      "libraries": ["-fopenmp"],
      "conditions": [
        ["target_arch=='x64'", { "dependencies": ["polypaca_cpu_avx2", "polypaca_cpu_avx512"] }]
      ]
    }
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "polypaca_cpu_avx2",
          "type": "static_library",
          "sources": ["<@(isa_sources)"],
          "defines": ["POLYPACA_ISA=avx2"],
          "cflags_cc": ["-march=x86-64-v3"]
        },
        {
          "target_name": "polypaca_cpu_avx512",
          "type": "static_library",
          "sources": ["<@(isa_sources)"],
          "defines": ["POLYPACA_ISA=avx512"],
          "cflags_cc": ["-march=x86-64-v4", "-mprefer-vector-width=512"]
        }
      ]
    }]
  ]
}
